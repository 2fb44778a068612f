"""What the model is, how well it does, and what it was not made for."""

import json

import streamlit as st

from app import resources, settings
from app.words import percent
from zoomloc.errors import ZoomlocError


def page() -> None:
    folder = settings.current().checkpoint
    try:
        localizer = resources.shared(folder).localizer
    except ZoomlocError as error:
        st.error(str(error), icon=":material/error:")
        return
    left, right = st.columns([0.65, 0.35], gap="large")
    card = folder / "README.md"
    with left:
        st.markdown(card.read_text(encoding="utf-8") if card.is_file() else "This checkpoint has no card.")
    with right:
        weights = sum(weight.numel() for weight in localizer.model.parameters())
        with st.container(border=True):
            st.markdown(
                f"**{weights / 1e6:.1f} million weights**  \n{localizer.device.type.upper()}  \n"
                f"headings: {'stated' if localizer.states_headings else 'not stated'}  \n"
                f"says “not on this map” above {percent(localizer.threshold)}, "
                f"{'calibrated' if localizer.calibration else 'not calibrated'}"
            )
        st.warning(
            "An answer is an estimate. The model was trained on the places its card names; of other places, of photos "
            "indoors, from the air or through a fisheye, what it says may mean little.",
            icon=":material/warning:",
        )
        plots = sorted(folder.glob("*.png"))
        for plot in plots:
            st.image(plot, caption=plot.stem)
        if not plots:
            st.caption("No reliability plots beside the checkpoint; `zoomloc evaluate --plots` draws them.")
        with st.expander("Configuration", icon=":material/settings:"):
            st.json(json.loads((folder / "config.json").read_text(encoding="utf-8")))


page()
