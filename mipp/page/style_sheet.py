"""The style sheet of a report page: light, dark, and on paper."""

STYLE_SHEET = """\
:root { color-scheme: light dark; --font: system-ui, -apple-system, "Segoe UI", sans-serif;
  --paper: #ffffff; --ink: #1f2328; --soft: #59636e; --rule: #d5d9de; --tint: #f6f8fa;
  --kept: #2f6fbb; --dropped: #d9822b; --alarm: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e6e9ed; --soft: #9aa4af;
  --rule: #363d46; --tint: #1d232a; --kept: #5b9be6; --dropped: #e39a4f; --alarm: #f2766d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 58rem; padding: 2.5rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 var(--font); }
h1 { margin: 0 0 .4rem; font-size: 1.9rem; line-height: 1.2; }
h2 { margin: 2.6rem 0 .8rem; padding-bottom: .3rem; border-bottom: 1px solid var(--rule);
  font-size: 1.25rem; }
.done { margin: 0; color: var(--soft); }
.headline { margin: 1.2rem 0 0; font-size: 1.2rem; font-weight: 600; line-height: 1.4; }
code { padding: .1em .3em; border-radius: .25em; background: var(--tint);
  font: .88em ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
pre { margin: 0; padding: .9rem 1rem; overflow-x: auto; border-radius: .4rem;
  background: var(--tint); }
pre code { padding: 0; background: none; overflow-wrap: normal; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .7rem;
  margin: 0 0 1.4rem; }
.facts div { padding: .8rem .9rem; border: 1px solid var(--rule); border-radius: .5rem; }
.facts dt { color: var(--soft); font-size: .85rem; }
.facts dd { margin: 0; }
.facts .value { font-size: 1.45rem; font-weight: 650; line-height: 1.3; }
.facts .detail { color: var(--soft); font-size: .8rem; line-height: 1.35; }
.scroll { overflow-x: auto; margin-bottom: 1.2rem; }
table { width: 100%; border-collapse: collapse; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
.caption { margin: -.7rem 0 1.4rem; color: var(--soft); font-size: .85rem; }
th, td { padding: .35rem .6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid var(--rule); font-weight: 600; }
tbody tr + tr > * { border-top: 1px solid var(--rule); }
tbody th { font-weight: 400; }
th.words, td.words { min-width: 11rem; text-align: left; white-space: normal; }
ul.notes { margin: 0; padding: 0; list-style: none; }
.notes li { margin: 0 0 .5rem; padding: .45rem .8rem; border-left: 4px solid var(--rule);
  background: var(--tint); }
.notes li.warning { border-left-color: var(--alarm); }
.notes strong { color: var(--alarm); }
table.widths th:nth-child(2) { text-align: left; }
table.widths td.bar { width: 45%; min-width: 8rem; }
table.widths svg { display: block; }
.controls { display: flex; flex-wrap: wrap; gap: .5rem 1.2rem; align-items: center;
  margin: 0 0 .6rem; font-size: .9rem; }
.controls input, .controls select { padding: .2rem .4rem; border: 1px solid var(--soft);
  border-radius: .3rem; background: var(--paper); color: inherit; font: inherit; }
.controls output { color: var(--soft); }
.searched .scroll { max-height: 26rem; overflow: auto; }
.searched thead th { position: sticky; top: 0; background: var(--paper); }
.searched th button { padding: 0; border: 0; background: none; color: inherit; font: inherit;
  cursor: pointer; }
.searched th button::after { content: " \\2195"; color: var(--soft); }
.searched th[aria-sort="ascending"] button::after { content: " \\2191"; color: var(--ink); }
.searched th[aria-sort="descending"] button::after { content: " \\2193"; color: var(--ink); }
:focus-visible { outline: 2px solid var(--kept); outline-offset: 2px; }
figure { margin: 0 0 1.8rem; }
figure svg { display: block; width: 100%; height: auto; }
figure .scroll { margin: 0; }
@media (max-width: 44rem) { figure svg { min-width: 40rem; } }
figcaption { color: var(--soft); font-size: .85rem; }
@media print { :root { --paper: #ffffff; --ink: #000000; --soft: #444444; --rule: #bbbbbb;
  --tint: #f4f4f4; --kept: #2f6fbb; --dropped: #d9822b; --alarm: #b3261e; }
  body { max-width: none; padding: 0; font-size: 10.5pt; print-color-adjust: exact;
  -webkit-print-color-adjust: exact; }
  h2 { break-after: avoid; } figure, .facts, tr, li { break-inside: avoid; }
  .scroll { overflow: visible; } pre { white-space: pre-wrap; } }
"""
