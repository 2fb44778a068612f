"""Numbers in words, as every page says them."""

import math


def percent(probability: float) -> str:
    if 0 < probability < 0.01:
        return "< 1 %"
    return "> 99 %" if 0.99 < probability < 1 else f"{probability * 100:.0f} %"


def length(metres: float) -> str:
    if not math.isfinite(metres):
        return "unknown"
    return f"{metres / 1000:.3g} km" if metres >= 1000 else f"{metres:.0f} m"


def area(square_metres: float) -> str:
    if not math.isfinite(square_metres):
        return "unknown"
    return f"{square_metres / 1e6:.2g} km²" if square_metres >= 1e5 else f"{square_metres:.0f} m²"
