"""Data folders: audio lists, pair, image and region tables, and their checks."""

from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.manifest.schema import (
    AudioList,
    AudioRow,
    ImageRow,
    ImageTable,
    PairRow,
    RegionRow,
    UtteranceRow,
)
from fairseq_vgs.manifest.tables import (
    read_audio_list,
    read_images,
    read_pairs,
    read_regions,
    read_utterances,
    write_audio_list,
    write_images,
    write_pairs,
    write_regions,
    write_utterances,
)

__all__ = [
    "AudioList",
    "AudioRow",
    "ImageRow",
    "ImageTable",
    "ManifestFolder",
    "PairRow",
    "RegionRow",
    "UtteranceRow",
    "read_audio_list",
    "read_images",
    "read_pairs",
    "read_regions",
    "read_utterances",
    "write_audio_list",
    "write_images",
    "write_pairs",
    "write_regions",
    "write_utterances",
]
