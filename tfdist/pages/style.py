"""How the HTML pages look: light or dark, as the reader's system has it."""

CSS = """\
:root {
  --paper: #f5f6fa; --panel: #ffffff; --ink: #1f2430; --soft: #5b6275; --line: #e3e6ee;
  --accent: #0072b2; --band: #9ccbe6; --note: #fff4d6; --note-ink: #6b4e00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #12151d; --panel: #1a1e29; --ink: #e6e9f0; --soft: #a0a8bb; --line: #2c3242;
    --accent: #56b4e9; --band: #24577c; --note: #3a3115; --note-ink: #f3dfa0;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif;
}
main { max-width: 1060px; margin: 0 auto; padding: 32px 20px 48px; }
h1 { margin: 0; font-size: 28px; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 0 0 12px; font-size: 17px; }
header { margin-bottom: 22px; }
.facts {
  display: flex;
  flex-wrap: wrap;
  gap: 8px;
  list-style: none;
  margin: 12px 0 0;
  padding: 0;
}
.facts li {
  padding: 2px 12px; border: 1px solid var(--line); border-radius: 999px;
  background: var(--panel); color: var(--soft); font-size: 13px;
}
.note {
  margin: 16px 0 0;
  padding: 10px 14px;
  border-radius: 8px;
  background: var(--note);
  color: var(--note-ink);
}
.cards {
  display: grid;
  grid-template-columns: repeat(auto-fit, minmax(180px, 1fr));
  gap: 14px;
  margin: 22px 0;
}
.card, section { background: var(--panel); border: 1px solid var(--line); border-radius: 12px; }
.card { padding: 14px 18px; }
.card .name { color: var(--soft); font-size: 13px; }
.card .value {
  font-size: 30px;
  font-weight: 650;
  line-height: 1.25;
  font-variant-numeric: tabular-nums;
}
.card .interval { color: var(--soft); font-size: 13px; font-variant-numeric: tabular-nums; }
section { margin: 0 0 18px; padding: 18px 20px; }
section p { margin: 12px 0 0; color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td {
  padding: 6px 14px 6px 0;
  border-bottom: 1px solid var(--line);
  text-align: right;
  white-space: nowrap;
}
tbody tr:last-child > * { border-bottom: 0; }
th:first-child { text-align: left; }
thead th { color: var(--soft); font-size: 13px; font-weight: 600; }
th small { margin-left: 8px; color: var(--soft); font-weight: 400; }
tbody th { font-weight: 500; }
.metrics td.bar { width: 40%; min-width: 180px; padding: 6px 4px 6px 14px; }
.metrics thead th:last-child { padding: 6px 4px 6px 14px; }
.scale { display: flex; justify-content: space-between; font-weight: 400; }
.track {
  position: relative;
  display: block;
  height: 8px;
  border-radius: 4px;
  background: var(--line);
}
.track i { position: absolute; top: 0; height: 100%; }
.band { border-radius: 4px; background: var(--band); min-width: 2px; }
.track .tick {
  top: -3px;
  width: 3px;
  height: 14px;
  margin-left: -1px;
  border-radius: 2px;
  background: var(--accent);
}
.figures {
  display: grid;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr));
  gap: 14px;
}
figure { margin: 0; }
figure img { display: block; width: 100%; height: auto; border-radius: 8px; }
footer { margin-top: 24px; color: var(--soft); font-size: 13px; }
@media print { body { background: #fff; } section, .card { break-inside: avoid; } }
"""
