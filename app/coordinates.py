"""A place in numbers, with a button that copies them.

`st.code` has such a button too, but brings 1.5 MB of program to colour code with: 0.3 s of a first answer.
"""

import streamlit as st

HTML = '<div class="place"><output></output><button type="button">Copy</button></div>'
CSS = """
.place { display: flex; align-items: center; justify-content: space-between; gap: 8px; padding: 6px 6px 6px 12px;
  font: 16px/1.5 var(--st-font), sans-serif; color: var(--st-text-color); border-radius: 8px;
  background: var(--st-secondary-background-color); }
output { font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
button { font: inherit; font-size: 14px; color: inherit; background: var(--st-background-color); cursor: pointer;
  padding: 3px 10px; border: 1px solid var(--st-border-color); border-radius: 6px; min-width: 5em; }
button:hover { border-color: var(--st-primary-color); color: var(--st-primary-color); }
:focus-visible { outline: 3px solid var(--st-primary-color); outline-offset: 1px; }
"""
JS = """
export default function ({ data, parentElement }) {
  const button = parentElement.querySelector("button");
  parentElement.querySelector("output").textContent = data;
  button.textContent = "Copy";
  button.hidden = !navigator.clipboard;
  button.onclick = async () => { await navigator.clipboard.writeText(data); button.textContent = "Copied"; };
}
"""

_mount = st.components.v2.component("zoomloc_coordinates", html=HTML, css=CSS, js=JS)


def show(lat: float, lon: float, *, key: str) -> None:
    """WGS 84, degrees, to a tenth of a metre. Where the browser may not copy, off loopback without HTTPS, it has no
    button."""
    _mount(key=key, data=f"{lat:.6f}, {lon:.6f}")
