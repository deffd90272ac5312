"""The layout: two tabs of Gradio's elements, which call ``handlers``.

Gradio is imported at the top of this module alone: it reads the annotations of functions.
"""

from typing import Any

import gradio

from fairseq_vgs.demo import show
from fairseq_vgs.demo.handlers import LOOK, SPEAK, Handlers
from fairseq_vgs.demo.search import Found
from fairseq_vgs.report.page import render_page

TITLE = "Speech and pictures"

# one question at a time; no endpoint for programs
ON: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "model", "concurrency_limit": 1}


def build_page(handlers: Handlers, about: str) -> Any:
    """Lay the page out; return ``gradio.Blocks``."""
    with gradio.Blocks(title=TITLE, analytics_enabled=False) as page:
        gradio.HTML(about, apply_default_css=False)
        with gradio.Tabs():
            with gradio.Tab(show.FIND_PICTURES):
                _add_speech(handlers)
            with gradio.Tab(show.FIND_CAPTIONS):
                _add_pictures(handlers)
    return page


def _add_speech(handlers: Handlers) -> None:
    found, choosable = gradio.State(None), render_page("demo_choose.js")
    captions = handlers.captions()
    with gradio.Row():
        with gradio.Column(scale=2, min_width=300):
            recording = gradio.Audio(
                sources=["microphone", "upload"],
                type="filepath",
                label="Speak, or upload a recording",
                editable=False,
                buttons=[],
                elem_id="recording",
            )
            gradio.HTML(show.MICROPHONE, elem_id="microphone", apply_default_css=False)
            caption = gradio.Dropdown(
                captions, value=None, label="Or choose a caption", elem_id="caption", visible=bool(captions)
            )
            another = gradio.Button("Any caption", elem_id="any-caption", size="sm", visible=bool(captions))
        with gradio.Column(scale=5, min_width=300):
            answers = gradio.HTML(
                show.hint(SPEAK), js_on_load=choosable, elem_id="pictures", apply_default_css=False
            )
    heat = gradio.HTML(elem_id="heat", apply_default_css=False)

    def choose(found: Found | None, event: gradio.EventData) -> str:
        return handlers.heat(found, int(event.index))

    answers.select(choose, found, heat, **ON)
    another.click(handlers.draw_caption, None, caption, **ON).then(
        handlers.choose_caption, caption, [answers, found, recording], **ON
    ).then(handlers.heat, found, heat, **ON)
    caption.input(handlers.choose_caption, caption, [answers, found, recording], **ON).then(
        handlers.heat, found, heat, **ON
    )
    for event in (recording.stop_recording, recording.upload, recording.clear):
        event(handlers.speak, recording, [answers, found, caption], **ON).then(
            handlers.heat, found, heat, **ON
        )


def _add_pictures(handlers: Handlers) -> None:
    choosable = render_page("demo_choose.js")
    with gradio.Row():
        with gradio.Column(scale=2, min_width=300):
            picture: Any = gradio.Image(
                sources=["upload", "webcam", "clipboard"],
                type="filepath",
                image_mode=None,
                label="Upload a picture",
                height=240,
                buttons=[],
                elem_id="picture",
            )
            # decoded as everywhere in this package, not by Gradio (a subclass would write a file of its own)
            picture.preprocess = lambda upload: None if upload is None else upload.path
            choices = gradio.HTML(
                handlers.draw_pictures(), js_on_load=choosable, elem_id="choices", apply_default_css=False
            )
            others = gradio.Button("Other pictures", elem_id="others", size="sm")
        with gradio.Column(scale=5, min_width=300):
            answers = gradio.HTML(show.hint(LOOK), elem_id="captions", apply_default_css=False)

    def choose(event: gradio.EventData) -> str:
        return handlers.choose_picture(int(event.index))

    choices.select(choose, None, answers, **ON)
    others.click(handlers.draw_pictures, None, choices, **ON)
    for event in (picture.upload, picture.clear):
        event(handlers.look, picture, answers, **ON)
