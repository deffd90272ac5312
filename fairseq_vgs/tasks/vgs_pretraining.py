"""Task: pre-train on pairs of spoken captions and pictures, and measure retrieval in validation."""

import functools
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from fairseq import metrics, utils
from fairseq.data import data_utils
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.tasks import FairseqTask, register_task
from omegaconf import II, MISSING
from torch import Tensor

from fairseq_vgs.data.paired_dataset import VgsDataset, VgsDatasetOptions
from fairseq_vgs.data.regions import RegionStore, load_regions
from fairseq_vgs.data.regular_tables import AudioTable
from fairseq_vgs.data.tables import SplitTable, draw_pairs, load_audio_table, load_split
from fairseq_vgs.files.faults import FaultError
from fairseq_vgs.files.provenance import plugin_state
from fairseq_vgs.manifest.folder import ManifestFolder
from fairseq_vgs.media.rates import SAMPLE_RATE
from fairseq_vgs.media.region_features import open_features
from fairseq_vgs.settings import bad_setting, setting
from fairseq_vgs.tasks.encoders import PictureConfig, build_with_backbone, load_units, name_units
from fairseq_vgs.tasks.history import TrainingHistory, is_first_rank, unfinished
from fairseq_vgs.tasks.host import (
    answer_dataloader_question,
    keep_freed_memory,
    return_freed_memory,
    use_tf32,
    warn_of_spinning_threads,
    without_cycle,
)
from fairseq_vgs.tasks.probing import CooperationProbes
from fairseq_vgs.tasks.settings import (
    check_config,
    dataset_options,
    described_images,
    follow_image_encoder,
    make_paths_absolute,
    missing_files,
    refuse_padding_that_counts,
)
from fairseq_vgs.tasks.updates import drop_gradients, separate_random_numbers, weigh_by_pairs
from fairseq_vgs.tasks.validation_retrieval import METRIC_NAMES, RetrievalCollector, validation_speech

logger = logging.getLogger(__name__)

Logs = dict[str, Any]

_N_VALID_PAIRS = "_n_valid_pairs"  # fairseq does not print meters with a leading underscore


@dataclass
class VgsPretrainingConfig(PictureConfig, FairseqDataclass):
    """Settings of the data and its batches."""

    data: str = setting(MISSING, "data folder, as fairseq-vgs prepare builds it")
    unpaired_data: Optional[str] = setting(
        None, "folder of fairseq audio lists: speech without pictures, for the SSL loss only"
    )
    unpaired_ratio: float = setting(0.0, "unpaired utterances per pair in every batch")
    train_pairs: int = setting(0, "train on so many pairs, drawn by the seed; 0: all")
    max_seconds: float = setting(8.0, "training speech is cut here")
    valid_max_seconds: float = setting(10.0, "speech of other splits is cut here")
    pad_to_max: bool = setting(
        False, "pad all speech to these lengths, as the authors do, not to the batch's longest"
    )
    length_buckets: int = setting(
        0,
        "pad training batches to one of so many lengths, so that compiled layers meet few shapes; 0: to "
        "their longest",
    )
    crop: ChoiceEnum(["start", "random"]) = setting(  # type: ignore[valid-type]
        "start", "part kept of longer training speech: its start, or a random (seeded) part"
    )
    normalize: bool = setting(True, "zero mean and unit variance per utterance")
    caption_input: str = setting(
        "${oc.select:model.caption_encoder,speech}", "speech or text; the model's unless set"
    )
    text_units: Optional[str] = setting(
        None, "SentencePiece model (caption_input=text); null: text/spm.model in task.data"
    )
    image_input: Optional[str] = setting(
        None, "regions (features and boxes) or pictures (raw); null: what model.image_encoder reads"
    )
    image_size: Optional[int] = setting(
        224, "height and width of raw pictures, pixels; null: as the backbone's"
    )
    max_regions: int = setting(36, "regions per picture at most, the first ones")
    skip_bad: bool = setting(False, "skip, count and report items that cannot be used, instead of stopping")
    tf32: bool = setting(
        False, "on a GPU, what is computed in fp32 uses TF32 units: faster, rounded to 10 bits"
    )
    length_noise: float = setting(0.1, "relative noise on lengths when training batches are formed by length")
    history_file: Optional[str] = setting(
        "history.jsonl", "one JSON line per update and validation, in the run directory; null for none"
    )
    probe_interval: int = setting(
        0,
        "updates between probes of how SSL and VGS cooperate: cosine of their gradients per shared layer, "
        "drift of every layer since the start (linear CKA); 0 for none",
    )
    probe_file: str = setting(
        "probes.jsonl", "one JSON line per probe, in the run directory, next to the frames of update 0"
    )
    probe_utterances: int = setting(32, "utterances of the first validation split that every probe reads")
    similarity: str = setting(
        "${oc.select:criterion.similarity,dot}",
        "dot or cosine, for retrieval in validation; the criterion's unless set",
    )
    seed: int = II("common.seed")
    train_subset: str = II("dataset.train_subset")
    mask_prob: float = II("model.mask_prob")
    mask_length: int = II("model.mask_length")
    mask_selection: str = II("model.mask_selection")
    mask_other: float = II("model.mask_other")
    no_mask_overlap: bool = II("model.no_mask_overlap")
    mask_min_space: int = II("model.mask_min_space")
    mask_dropout: float = II("model.mask_dropout")
    conv_feature_layers: str = II("model.conv_feature_layers")


@register_task("vgs_pretraining", dataclass=VgsPretrainingConfig)
class VgsPretrainingTask(FairseqTask):
    """Paired speech and pictures, optional unpaired speech, and recall over the whole validation set."""

    cfg: VgsPretrainingConfig

    def __init__(self, cfg: VgsPretrainingConfig) -> None:
        super().__init__(cfg)
        self.folder = ManifestFolder(Path(cfg.data))
        self._retrieval = RetrievalCollector(str(cfg.similarity))
        self._regions: RegionStore | None = None
        self._numpy_seed = (-1, 0)
        self._n_bad_reported: dict[str, int] = {}
        self._validated_split = "valid"
        self._recalls: dict[str, list[tuple[int, float]]] = {}  # of the validation sets, in their order
        self._n_images = math.nan
        self._trains_vgs = True
        self._images: Logs = {}
        self._history = TrainingHistory(Path(cfg.history_file)) if cfg.history_file else None
        self._probes = CooperationProbes(cfg, self.datasets)

    @classmethod
    def setup_task(cls, cfg: VgsPretrainingConfig, **kwargs: Any) -> "VgsPretrainingTask":  # noqa: ARG003 - fairseq's signature
        """Build the task. Loading a checkpoint calls this too, without data: see `build_criterion`.

        Raises:
            FaultError: a setting is impossible.
        """
        follow_image_encoder(cfg)
        check_config(cfg)
        make_paths_absolute(cfg, ("data", "unpaired_data", "text_units"))
        answer_dataloader_question(cfg)
        return cls(cfg)

    @property
    def region_dim(self) -> int | None:
        """Dims of the region features in ``task.data``; None with raw pictures or without the data.

        Raises:
            FaultError: ``file.unreadable``: ``regions.npy`` cannot be used.
        """
        if str(self.cfg.image_input) != "regions" or not self.folder.region_features.is_file():
            return None
        return int(open_features(self.folder.region_features).shape[1])

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """Build the model; fill in null settings (``model.image_dim``, text units) from the data.

        They are written into the run's settings, so checkpoints hold them and load without the data.

        Raises:
            FaultError: a setting must be filled in, and the data is missing.
        """
        if str(self.cfg.image_input) == "regions" and getattr(cfg, "image_dim", 0) is None:
            self._require_files()
            cfg.image_dim = self.region_dim
        name_units(cfg, self.cfg, self.folder)
        refuse_padding_that_counts(self.cfg, cfg)
        return build_with_backbone(super().build_model, cfg, self.cfg, from_checkpoint=from_checkpoint)

    def build_criterion(self, cfg: Any) -> Any:
        """Build the criterion; a run starts here, so missing data is reported here.

        Raises:
            FaultError: the folder or files in it are missing, or the criterion cannot be probed.
        """
        self._require_files()
        criterion = super().build_criterion(cfg)
        is_weighted = str(getattr(cfg, "_name", "")) == "vgs_multitask"
        self._trains_vgs = not is_weighted or any(alpha > 0 for alpha in cfg.alpha_values)
        self._probes.check(criterion)
        self._images = described_images(self.cfg, self.folder)
        return criterion

    def state_dict(self) -> Logs:
        """Return what checkpoints keep as ``task_state``: the plugin's version, and how images were made.

        Resuming reads neither.
        """
        return {**super().state_dict(), **plugin_state(self._images)}

    def _require_files(self) -> None:
        if faults := missing_files(self.cfg, self.folder):
            raise FaultError(faults)

    def load_dataset(self, split: str, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002 - fairseq's signature
        """Load a split into ``datasets``.

        Raises:
            FaultError: tables are missing or faulty, or the training split is validated on too.
        """
        training = split == self.cfg.train_subset
        if training and split in self.datasets:
            # fairseq loads the validation sets first, and this data set cannot be in two epochs at a time
            expected, step = "other splits than dataset.train_subset", "copy its tables under another name"
            raise bad_setting("dataset.valid_subset", expected, split, step, code="setting.conflict")
        options = dataset_options(self.cfg, training=training)
        units = load_units(self.cfg, self.folder)
        table = load_split(
            self.folder, split, layers=options.layers, skip_bad=options.skip_bad, with_texts=units is not None
        )
        if training and self.cfg.train_pairs:
            if self.cfg.train_pairs > len(table):
                expected = f"at most the {len(table)} pairs of split {split!r}"
                raise bad_setting("task.train_pairs", expected, self.cfg.train_pairs)
            table = draw_pairs(table, self.cfg.train_pairs, self.cfg.seed)
        self.datasets[split] = VgsDataset(
            table,
            options,
            regions=self._load_regions(table) if str(self.cfg.image_input) == "regions" else None,
            unpaired=self._load_unpaired(options) if training else None,
            units=units,
        )
        table = self.datasets[split].table
        hours = float(table.n_samples.sum()) / SAMPLE_RATE / 3600
        logger.info("split %r: %d pairs, %.2f h of speech", split, len(table), hours)

    def get_batch_iterator(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Return an iterator over batches; for a validation split, reset retrieval."""
        if not (isinstance(dataset, VgsDataset) and dataset.options.training):
            self._retrieval.reset()
            self._validated_split = getattr(getattr(dataset, "table", None), "split", "valid")
        return_freed_memory()
        return without_cycle(super().get_batch_iterator(dataset, *args, **kwargs))

    def begin_epoch(self, epoch: int, model: Any) -> None:
        """Report skipped items; keep the memory that tensors free from now on."""
        super().begin_epoch(epoch, model)
        self._report_bad_items()
        keep_freed_memory()
        use_tf32(enabled=bool(self.cfg.tf32))
        if epoch == 1:
            warn_of_spinning_threads()

    def begin_valid_epoch(self, epoch: int, model: Any) -> None:
        """Report skipped items so far."""
        super().begin_valid_epoch(epoch, model)
        self._report_bad_items()

    def begin_update(self, samples: list[Logs]) -> None:
        """Prepare the batches of an update; more than one with ``optimization.update_freq``."""
        weigh_by_pairs(samples)

    def train_step(
        self,
        sample: Logs,
        model: Any,
        criterion: Any,
        optimizer: Any,
        update_num: int,
        ignore_grad: bool = False,
    ) -> tuple[Tensor, Any, Logs]:
        """Run forward and backward, and tell the criterion the number of the update.

        NumPy's global generator, which layers draw from and no checkpoint saves, is seeded by update.
        """
        self._probes.begin_update(update_num, model, criterion)
        if callable(set_num_updates := getattr(criterion, "set_num_updates", None)):
            set_num_updates(update_num)
        if ignore_grad:
            sample = {**sample, "is_dummy": True}
        last_update, n_batches = self._numpy_seed
        self._numpy_seed = (update_num, n_batches + 1 if last_update == update_num else 0)
        with data_utils.numpy_seed(self.cfg.seed, *self._numpy_seed):
            return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)

    def optimizer_step(self, optimizer: Any, model: Any, update_num: int) -> None:
        """Run the optimizer; leave parameters alone whose branch this update did not compute.

        Distributed wrappers give these parameters gradients of zero, with which Adam would still move them.
        """
        if callable(unused_parameters := getattr(model, "unused_parameters", None)):
            drop_gradients(optimizer, unused_parameters())
        super().optimizer_step(optimizer, model, update_num)
        self._probes.end_update(update_num + 1, model)

    def valid_step(self, sample: Logs, model: Any, criterion: Any) -> tuple[Tensor, Any, Logs]:
        """Evaluate a batch with separate random numbers, and keep its embeddings for retrieval.

        ``is_dummy`` tells the criterion that a batch is only a copy of an earlier one.
        """
        # a copy: the criterion adds embeddings, which must not live as long as fairseq's dummy batch
        sample = dict(sample)
        if self._retrieval.begin(sample):
            sample["is_dummy"] = True
        with separate_random_numbers(self.cfg.seed):
            loss, sample_size, logging_output = super().valid_step(sample, model, criterion)
        if (embeddings := sample.get("embeddings")) is not None:
            speech = validation_speech(model, sample, embeddings, pad_to_max=bool(self.cfg.pad_to_max))
            self._retrieval.add(sample, {**embeddings, "speech": speech})
            n_pairs = 0 if sample.get("is_dummy") else sample["n_pairs"]
            logging_output = {**logging_output, _N_VALID_PAIRS: n_pairs}
        return loss, sample_size, logging_output

    def reduce_metrics(self, logging_outputs: list[Logs], criterion: Any) -> None:
        """Log the criterion's metrics and, in validation, retrieval over all pairs so far."""
        super().reduce_metrics(logging_outputs, criterion)
        if any(_N_VALID_PAIRS in log for log in logging_outputs):
            n_pairs = utils.item(sum(log.get(_N_VALID_PAIRS, 0) for log in logging_outputs))
            metrics.log_scalar_sum(_N_VALID_PAIRS, n_pairs)
            for name in METRIC_NAMES:
                metrics.log_derived(name, functools.partial(self._retrieval_value, name))
        if criterion.training:
            self._write_update()

    def post_validate(self, model: Any, stats: Logs, agg: Any) -> None:  # noqa: ARG002 - fairseq's signature
        """Append results to the history; fairseq calls this after each validation set."""
        update = int(stats["num_updates"])
        if math.isfinite(recall := float(stats.get("speech_to_image_r10", math.nan))):
            self._n_images = float(stats["retrieval_images"])
            self._recalls.setdefault(self._validated_split, []).append((update, recall))
        if self._history is not None and is_first_rank():
            self._history.append(self._validated_split, update, stats)

    def end_run(self) -> None:
        """Warn if the run has not learned to retrieve, or is still learning; called when it is finished."""
        if self._trains_vgs and is_first_rank():
            for recalls in list(self._recalls.values())[:1]:
                if warning := unfinished(recalls, chance=100.0 * min(1.0, 10.0 / self._n_images)):
                    logger.warning("%s", warning)

    def name_items(self, sample: Logs) -> list[str]:
        """Return where the audio list has the recordings of a training batch's pairs, for messages."""
        table = self.datasets[str(self.cfg.train_subset)].table
        return [table.audio.place(int(table.audio_row[index])) for index in sample["id"].tolist()]

    def max_positions(self) -> None:
        """Return no limit, since speech is cut to ``max_seconds``."""
        return

    @staticmethod
    def has_sharded_data(split: str) -> bool:  # noqa: ARG004 - fairseq's signature
        """Return false: a colon in ``task.data`` is part of the path and does not separate shards."""
        return False

    source_dictionary = target_dictionary = None  # speech and pictures go in, and nothing is transcribed

    def _retrieval_value(self, name: str, meters: Any) -> float:
        return self._retrieval.values(utils.item(meters[_N_VALID_PAIRS].sum))[name]

    def _write_update(self) -> None:
        """Append this update's metrics, from fairseq's innermost aggregator, to the history."""
        meters = metrics.get_meters("train")
        if self._history is None or meters is None or "num_updates" not in meters or not is_first_rank():
            return
        values = metrics.get_active_aggregators()[-1].get_smoothed_values()
        values |= {key: meters[key].val for key in ("lr", "gnorm") if key in meters}
        # the innermost aggregator starts with every update and has no speed
        values |= {key: meters[key].smoothed_value for key in ("pairs_per_second", "wps") if key in meters}
        self._history.append("train", int(meters["num_updates"].val), values)

    def _load_regions(self, table: SplitTable) -> RegionStore:
        """Read the regions, once for all splits: they share images.tsv."""
        if self._regions is None:
            limit, skip_bad = self.cfg.max_regions, self.cfg.skip_bad
            self._regions = load_regions(
                self.folder, image_index=table.images.index, max_regions=limit, skip_bad=skip_bad
            )
            if self._regions.n_cut:
                logger.info("task.max_regions=%d: %d regions left out", limit, self._regions.n_cut)
        return self._regions

    def _load_unpaired(self, options: VgsDatasetOptions) -> AudioTable | None:
        if not self.cfg.unpaired_ratio or self.cfg.unpaired_data is None:
            return None
        path = ManifestFolder(Path(self.cfg.unpaired_data)).audio_list(self.cfg.train_subset)
        return load_audio_table(path, layers=options.layers, skip_bad=options.skip_bad)

    def _report_bad_items(self) -> None:
        for split, dataset in self.datasets.items():
            for noun, n_bad in dataset.n_bad().items():
                key = f"{split}, {noun}"
                if n_bad > self._n_bad_reported.get(key, 0):
                    self._n_bad_reported[key] = n_bad
                    logger.warning("split %r: %d items skipped so far (%s each)", split, n_bad, noun)
