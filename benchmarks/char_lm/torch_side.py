"""Trains the character language model in PyTorch, on one of two hosts, until it is good enough.

Usage: torch_side.py SIDE RANK ADDRESS:PORT, where SIDE is a JSON object (`slow_link.py`
makes it); each worker prints one JSON line.
"""

import copy
import json
import sys

import numpy as np
import settings
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import post_localSGD_hook, powerSGD_hook
from torch.distributed.algorithms.model_averaging import averagers
from torch.distributed.optim import PostLocalSGDOptimizer

WORKERS = 2


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        width = settings.WIDTH
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        qkv = self.qkv(self.norm_1(x)).unflatten(-1, (3, settings.HEADS, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(y.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm_2(x))


class GPT(nn.Module):
    """The same model as `keras_side.build`."""

    def __init__(self, vocabulary):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, settings.WIDTH)
        self.places = nn.Embedding(settings.BLOCK, settings.WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(settings.LAYERS)))
        self.norm = nn.LayerNorm(settings.WIDTH)
        self.head = nn.Linear(settings.WIDTH, vocabulary)
        self._initialize(iter(settings.matrices(vocabulary)))

    def forward(self, tokens):
        return self.head(self.norm(self.blocks(self.tokens(tokens) + self.places.weight)))

    @torch.no_grad()
    def _initialize(self, matrices):
        def take(count=1):
            return torch.from_numpy(np.concatenate([next(matrices) for _ in range(count)], 1))

        self.tokens.weight.copy_(take())
        self.places.weight.copy_(take())
        for block in self.blocks:
            block.qkv.weight.copy_(take(3).T)
            for linear in (block.project, block.mlp[0], block.mlp[2]):
                linear.weight.copy_(take().T)
        self.head.weight.copy_(take().T)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.bias.zero_()


def loss_of(model, x, y):
    return nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())


def optimizer_of(parameters):
    adam = torch.optim.Adam(
        parameters,
        lr=settings.LEARNING_RATE,
        betas=(settings.BETA_1, settings.BETA_2),
        eps=settings.EPSILON,
        fused=True,
    )

    def factor(step):
        return min(1.0, step / settings.WARM_UP_STEPS)

    return adam, torch.optim.lr_scheduler.LambdaLR(adam, factor)


def agree(side, ddp, optimizer):
    """Makes workers agree as `side` says; returns the optimizer to step."""
    if side["hook"] == "powersgd":
        state = powerSGD_hook.PowerSGDState(
            None,
            matrix_approximation_rank=side["rank"],
            start_powerSGD_iter=side["start"],
            min_compression_rate=1,
            orthogonalization_epsilon=1e-8,
            batch_tensors_with_same_shape=True,
        )
        ddp.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    elif side["hook"] == "post_local_sgd":
        state = post_localSGD_hook.PostLocalSGDState(
            None,
            subgroup=None,
            start_localSGD_iter=side["start"],
            post_local_gradient_allreduce=False,  # a host has one worker
        )
        ddp.register_comm_hook(state, post_localSGD_hook.post_localSGD_hook)
        averager = averagers.PeriodicModelAverager(side["period"], warmup_steps=side["start"])
        return PostLocalSGDOptimizer(optimizer, averager)
    return optimizer


@torch.no_grad()
def evaluate(model, x, y, rank):
    """The average model's loss: each worker takes its part of the examples."""
    average = copy.deepcopy(model)
    for parameter in average.parameters():
        dist.all_reduce(parameter.data)
        parameter.data /= WORKERS
    mine = slice(rank, None, WORKERS)
    loss = loss_of(average, x[mine], y[mine])
    dist.all_reduce(loss)
    return loss.item() / WORKERS


def train(side, rank):
    torch.manual_seed(0)
    train_set, validation, vocabulary = settings.data(side["steps"], WORKERS)
    (x, y), (x_val, y_val) = [
        [torch.from_numpy(array).long() for array in arrays] for arrays in (train_set, validation)
    ]
    model = GPT(vocabulary)
    ddp = nn.parallel.DistributedDataParallel(
        torch.compile(model) if side.get("compile") else model,
        gradient_as_bucket_view=True,
        # PowerSGD's all-reduces of several buckets meet in another order on the other host.
        bucket_cap_mb=25 if side["hook"] == "powersgd" else None,
    )
    adam, schedule = optimizer_of(model.parameters())
    optimizer = agree(side, ddp, adam)
    recorder = settings.Recorder()
    for step in range(side["steps"]):
        rows = slice((step * WORKERS + rank) * settings.BATCH, None)
        loss = loss_of(ddp, x[rows][: settings.BATCH], y[rows][: settings.BATCH])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step == 0:
            recorder.begin()
        elif (step + 1) % side["evaluate_every"] == 0:
            recorder.end(step + 1)
            if side["target"] is not None:
                recorder.evaluated(evaluate(model, x_val, y_val, rank))
                if recorder.points[-1]["loss"] <= side["target"]:
                    break
            recorder.begin()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"points": recorder.points, "parameters": parameters}


def main(side, rank, address):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://{address}", rank=rank, world_size=WORKERS)
    print("RESULT " + json.dumps(train(side, rank)), flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
