"""A table of many rows: sorted by its headings, filtered, and searched, by a script of the page."""

from __future__ import annotations

import html
import json
import math

from mipp.page.document import Searched

SHOWN = 200  # rows at once: a network may have tens of thousands of units


def searched(table: Searched) -> str:
    """The controls, the empty table, and its rows as data beside it."""
    data = {"rows": [[_told(value) for value in row] for row in table.rows], "shown": SHOWN}
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    picks = "".join(
        f"<label>{html.escape(name)} "
        f'<select data-column="{table.header.index(name)}"><option value="">all</option>'
        + "".join(f"<option>{html.escape(value)}</option>" for value in _values(table, name))
        + "</select></label>\n"
        for name in table.filters
    )
    head = "".join(
        f'<th scope="col"><button type="button">{html.escape(name)}</button></th>'
        for name in table.header
    )
    return f"""<div class="searched">
<noscript><p>The rows are in <code>{html.escape(table.place)}</code>; with scripts they are shown
here.</p></noscript>
<p class="controls"><label>search <input type="search"></label>
{picks}<output role="status"></output></p>
<div class="scroll" tabindex="0" role="region" aria-label="rows that were found"><table>
<thead><tr>{head}</tr></thead>
<tbody></tbody>
</table></div>
<p class="caption">{html.escape(table.caption)}</p>
<script type="application/json">{text}</script>
</div>"""


def _told(value: str | float) -> str | float:
    """JSON knows no infinity."""
    return value if isinstance(value, str) or math.isfinite(value) else str(value)


def _values(table: Searched, name: str) -> list[str]:
    column = table.header.index(name)
    return list(dict.fromkeys(str(row[column]) for row in table.rows))


SCRIPT = """\
<script>
for (const box of document.querySelectorAll(".searched")) {
  const { rows, shown } = JSON.parse(box.querySelector("script").textContent);
  const heads = [...box.querySelectorAll("th")], body = box.querySelector("tbody");
  const search = box.querySelector("input"), picks = [...box.querySelectorAll("select")];
  let sorted = null, up = true;
  const text = v => typeof v !== "number" ? v : Number.isInteger(v) ? String(v) : v.toPrecision(3);
  const before = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
    : String(a).localeCompare(String(b), undefined, { numeric: true });
  const show = () => {
    const words = search.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let found = rows.filter(row =>
      picks.every(p => !p.value || String(row[p.dataset.column]) === p.value) &&
      words.every(word => row.some(v => text(v).toLowerCase().includes(word))));
    if (sorted !== null)
      found = [...found].sort((a, b) => (up ? 1 : -1) * before(a[sorted], b[sorted]));
    body.replaceChildren(...found.slice(0, shown).map(row => {
      const line = document.createElement("tr");
      line.append(...row.map(v => {
        const cell = document.createElement("td");
        cell.textContent = text(v);
        return cell;
      }));
      return line;
    }));
    const first = found.length > shown ? `, the first ${shown} shown` : "";
    box.querySelector("output").value = `${found.length} of ${rows.length} rows${first}`;
  };
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    up = sorted === column ? !up : true;
    sorted = column;
    heads.forEach(h => h.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    show();
  }));
  search.addEventListener("input", show);
  picks.forEach(pick => pick.addEventListener("change", show));
  show();
}
</script>
"""
