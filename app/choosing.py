"""Widgets that several pages have."""

from pathlib import Path

import streamlit as st

from app import resources, settings
from zoomloc.errors import ZoomlocError


def region_file() -> Path:
    """The region of this session; where there are several, chosen here. Stops the page where it cannot be used."""
    files = settings.current().region_files()
    names: dict[Path, str] = {}
    for path in files:
        try:
            names[path] = resources.region(path).name
        except ZoomlocError as error:
            st.error(str(error), icon=":material/error:")
    if not names:
        st.stop()
    kept = st.session_state.get("region_kept")
    if len(names) == 1:
        return next(iter(names))
    chosen = st.selectbox(
        "Region",
        list(names),
        index=list(names).index(kept) if kept in names else 0,
        format_func=lambda path: names[path],
    )
    st.session_state.region_kept = chosen  # a widget's own state is lost when another page is shown
    return chosen
