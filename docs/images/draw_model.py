"""Draw the picture of the model: ``python docs/images/draw_model.py`` writes ``model.svg`` here."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

INK, GREY = "#1f2933", "#7b8794"
SPEECH, SHARED, SSL, IMAGE, VGS = "#dbeafe", "#bfdbfe", "#fde68a", "#d1fae5", "#fbcfe8"
HEIGHT = 0.9


def box(ax, x, y, width, title, detail="", color=SPEECH, height=HEIGHT):
    """Draw a rounded box centred on (x, y) and return its centre and half sizes."""
    ax.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=color,
            edgecolor=INK,
            linewidth=1,
        )
    )
    ax.text(x, y + (0.16 if detail else 0), title, ha="center", va="center", fontsize=9, color=INK)
    if detail:
        ax.text(x, y - 0.2, detail, ha="center", va="center", fontsize=7, color=INK)
    return x, y, width / 2, height / 2


def arrow(ax, start, end, bend=None, color=INK):
    """Draw an arrow between two points, through a right angle where ``bend`` names its style."""
    style = bend or "arc3,rad=0"
    ax.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=12,
            connectionstyle=style,
            color=color,
            linewidth=1.2,
            shrinkA=0,
            shrinkB=0,
        )
    )


def right(item):
    """Return the middle of a box's right side."""
    return item[0] + item[2], item[1]


def left(item):
    """Return the middle of a box's left side."""
    return item[0] - item[2], item[1]


def waveform(ax, x, y, width):
    """Draw an invented waveform centred on (x, y)."""
    time = np.linspace(0, 1, 400)
    envelope = np.exp(-(((time - 0.3) / 0.13) ** 2)) + 0.8 * np.exp(-(((time - 0.72) / 0.12) ** 2))
    sound = envelope * np.sin(2 * np.pi * 38 * time) * (0.75 + 0.25 * np.sin(2 * np.pi * 5 * time))
    ax.plot(x + (time - 0.5) * width, y + 0.36 * sound, color="#1d4ed8", linewidth=0.8)


def picture(ax, x, y, side):
    """Draw an invented picture with two regions, centred on (x, y)."""
    low, base = x - side / 2, y - side / 2
    ax.add_patch(Rectangle((low, base), side, side, facecolor="#f0f9ff", edgecolor=INK, linewidth=1))
    ax.add_patch(Rectangle((low, base), side, side * 0.3, facecolor="#86efac", edgecolor="none"))
    ax.add_patch(plt.Circle((low + side * 0.76, base + side * 0.76), side * 0.12, color="#fbbf24"))
    ax.add_patch(
        plt.Polygon(
            [
                (low + side * 0.12, base + side * 0.3),
                (low + side * 0.34, base + side * 0.72),
                (low + side * 0.56, base + side * 0.3),
            ],
            color="#15803d",
        )
    )
    for corner, width, height in (((0.08, 0.24), 0.52, 0.54), ((0.6, 0.6), 0.32, 0.32)):
        ax.add_patch(
            Rectangle(
                (low + side * corner[0], base + side * corner[1]),
                side * width,
                side * height,
                facecolor="none",
                edgecolor="#dc2626",
                linewidth=1.2,
            )
        )


def draw():
    """Return the figure."""
    figure, ax = plt.subplots(figsize=(11, 4.6))
    ax.set(xlim=(0, 16.5), ylim=(-0.1, 6.8), aspect="equal")
    ax.axis("off")
    top, middle, bottom = 5.6, 3.8, 1.2

    waveform(ax, 1.15, middle, 1.9)
    ax.text(1.15, middle - 0.72, "spoken caption", ha="center", fontsize=9, color=GREY)
    convolution = box(ax, 3.55, middle, 2.1, "CNN", "20 ms frames")
    shared = box(ax, 6.45, middle, 2.4, "transformer", "shared layers 1 … 8", SHARED)
    upper = box(ax, 9.5, top, 2.3, "transformer", "SSL layers 9 … 12", SSL)
    masked = box(ax, 12.4, top, 2.4, "SSL head", "masked prediction", SSL)
    speech_head = box(ax, 9.5, middle, 2.4, "speech head", "ResDAVEnet, attention")
    speech = box(ax, 12.4, middle, 2.1, "speech", "embedding", color=VGS)

    picture(ax, 1.15, bottom, 1.35)
    ax.text(1.15, bottom - 0.95, "picture", ha="center", fontsize=9, color=GREY)
    regions = box(ax, 3.55, bottom, 2.1, "regions", "patches, backbone", IMAGE)
    encoder = box(ax, 6.45, bottom, 2.4, "image transformer", "6 layers", IMAGE)
    image = box(ax, 12.4, bottom, 2.1, "image", "embedding", color=VGS)

    for first, second in (
        (convolution, shared),
        (shared, speech_head),
        (speech_head, speech),
        (upper, masked),
        (regions, encoder),
        (encoder, image),
    ):
        arrow(ax, right(first), left(second))
    arrow(ax, (2.12, middle), left(convolution))
    arrow(ax, (1.9, bottom), left(regions))
    fork = (right(shared)[0] + 0.35, middle)
    ax.plot([fork[0], fork[0]], [middle, top], color=INK, linewidth=1.2)
    arrow(ax, (fork[0], top), left(upper))
    ax.text(4.88, middle + 0.85, "masked spans", ha="center", fontsize=8.5, color=GREY)
    arrow(ax, (4.88, middle + 0.78), (4.88, middle + 0.06), color=GREY)

    ax.text(14.4, top + 0.22, r"$L_{SSL}$", ha="center", fontsize=12, color="#92400e")
    contrast = (12.4, (middle + bottom) / 2)
    arrow(ax, contrast, (12.4, middle - HEIGHT / 2), color="#be185d")
    arrow(ax, contrast, (12.4, bottom + HEIGHT / 2), color="#be185d")
    ax.text(
        12.1,
        contrast[1],
        "contrastive loss over\nthe pairs of a batch",
        ha="right",
        va="center",
        fontsize=8.5,
        color=GREY,
    )
    ax.text(13.4, contrast[1] + 0.22, r"$L_{VGS}$", ha="center", fontsize=12, color="#be185d")
    box(ax, 15.3, middle, 2.1, "", color="#ffffff", height=1.3)
    ax.text(15.3, middle + 0.25, r"$\alpha\,L_{VGS}$", ha="center", va="center", fontsize=11, color=INK)
    ax.text(
        15.3, middle - 0.28, r"$+\ (1-\alpha)\,L_{SSL}$", ha="center", va="center", fontsize=11, color=INK
    )
    arrow(ax, right(masked), (15.3, middle + 0.65), "angle,angleA=0,angleB=90,rad=0")
    arrow(ax, contrast, (15.3, middle - 0.65), "angle,angleA=0,angleB=90,rad=0")
    return figure


def main():
    """Write the picture."""
    mpl.rcParams.update({"svg.hashsalt": "model", "mathtext.fontset": "cm", "font.family": "DejaVu Sans"})
    figure = draw()
    target = Path(__file__).with_name("model.svg")
    figure.savefig(target, metadata={"Date": None}, bbox_inches="tight", pad_inches=0.05)


if __name__ == "__main__":
    main()
