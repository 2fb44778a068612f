"""What `streamlit run` runs: the frame around the pages. `zoomloc app` starts it."""

from pathlib import Path

import streamlit as st

# Streamlit would run scripts of a folder "pages" by themselves, for whoever opens one of them before any other.
SCREENS = Path(__file__).with_name("screens")

# Streamlit leaves much room around a page, shows no focus of links, and lets the keyboard into a closed menu.
STYLE = """
.stMainBlockContainer { padding: 4.5rem 2.5rem 2rem; }
.stApp a:focus-visible { outline: 3px solid; outline-offset: 1px; }
.stSidebar[data-collapsed="true"] { visibility: hidden; }
.stMarkdown table { display: block; width: fit-content; max-width: 100%; overflow-x: auto; font-size: .875rem; }
.stMarkdown :is(th, td) { white-space: nowrap; }
@media (max-width: 640px) {
  .stMainBlockContainer { padding: 4rem 1rem 1rem; }
  .stExpander .stHorizontalBlock { flex-wrap: nowrap; }
  .stExpander .stColumn { min-width: 0; flex: 1 1 0; }
}
"""


def main() -> None:
    st.set_page_config(page_title="ZoomLoc", page_icon="🔎", layout="wide")
    pages = [
        st.Page(SCREENS / "locate.py", title="Locate", icon=":material/location_searching:", default=True),
        st.Page(SCREENS / "batch.py", title="Batch", icon=":material/photo_library:"),
        st.Page(SCREENS / "regions.py", title="Regions", icon=":material/map:"),
        st.Page(SCREENS / "model.py", title="About the model", icon=":material/info:"),
    ]
    st.html(f"<style>{STYLE}</style>")
    st.navigation(pages, position="top").run()


main()
