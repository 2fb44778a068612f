"""What `streamlit run` runs: the frame around the pages. `zoomloc app` starts it."""

from pathlib import Path

import streamlit as st

PAGES = Path(__file__).with_name("pages")

# Streamlit leaves much room around a page.
STYLE = """
.stMainBlockContainer { padding: 4.5rem 2.5rem 2rem; }
@media (max-width: 640px) { .stMainBlockContainer { padding: 4rem 1rem 1rem; } }
"""


def main() -> None:
    st.set_page_config(page_title="ZoomLoc", page_icon="🔎", layout="wide")
    pages = [
        st.Page(PAGES / "locate.py", title="Locate", icon=":material/location_searching:", default=True),
        st.Page(PAGES / "batch.py", title="Batch", icon=":material/photo_library:"),
        st.Page(PAGES / "regions.py", title="Regions", icon=":material/map:"),
        st.Page(PAGES / "model.py", title="About the model", icon=":material/info:"),
    ]
    st.html(f"<style>{STYLE}</style>")
    st.navigation(pages, position="top").run()


main()
