"""Times the same transformer in PyTorch, by DistributedDataParallel where there are several.

Usage: torch_side.py RANK WORLD_SIZE PORT; prints one JSON line on rank 0.
"""

import json
import os
import resource
import statistics
import sys
import time

import sizes
import torch
from torch import nn

STEPS, WARM_UP = 40, 8


class Transformer(nn.Module):
    """The same transformer as `keras_side.build`."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(sizes.VOCABULARY, sizes.WIDTH)
        self.positions = nn.Embedding(sizes.TOKENS, sizes.WIDTH)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                sizes.WIDTH,
                sizes.HEADS,
                4 * sizes.WIDTH,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(sizes.LAYERS)
        )
        self.norm = nn.LayerNorm(sizes.WIDTH)
        self.head = nn.Linear(sizes.WIDTH, sizes.VOCABULARY)
        mask = nn.Transformer.generate_square_subsequent_mask(sizes.TOKENS)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.positions.weight
        for block in self.blocks:
            x = block(x, src_mask=self.mask, is_causal=True)
        return self.head(self.norm(x))


def main(rank, world_size, port):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Transformer()
    if world_size > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        torch.distributed.init_process_group("gloo", rank=rank, world_size=world_size)
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    generator = torch.Generator().manual_seed(rank)
    ends = []
    for _ in range(WARM_UP + STEPS):
        data = torch.randint(
            0, sizes.VOCABULARY, (sizes.BATCH, sizes.TOKENS + 1), generator=generator
        )
        logits = model(data[:, :-1])
        loss = nn.functional.cross_entropy(
            logits.reshape(-1, sizes.VOCABULARY), data[:, 1:].reshape(-1)
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss.item()
        ends.append(time.perf_counter())
    steps = [b - a for a, b in zip(ends[WARM_UP - 1 : -1], ends[WARM_UP:])]
    if rank == 0:
        found = {
            "step_ms": 1e3 * statistics.median(steps),
            "min_ms": 1e3 * min(steps),
            "parameters": sum(p.numel() for p in model.parameters()),
            "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print("RESULT " + json.dumps(found), flush=True)
    if world_size > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
