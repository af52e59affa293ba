"""Loading models and tokenizers, by folder or hub id, through transformers' auto classes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoestring.errors import ModelError, first_line, suggest
from shoestring.hub import hub_mode
from shoestring.models.direction import check_direction
from shoestring.models.placing import pick_device, placing
from shoestring.models.quiet import quiet
from shoestring.models.settings import MODEL_KINDS, HeadModel, ModelSettings
from shoestring.seeds import derive, torch_seeded

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_SAMPLE = 1 << 20
# Files whose change changes what a model does.
_COUNTED = {".safetensors", ".bin", ".json", ".model", ".txt"}


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode on its device, its tokenizer, where it came from, and the fingerprint it had then."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    settings: ModelSettings
    fingerprint: str

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.model.device

    @property
    def max_tokens(self) -> int | None:
        """Longest input the model's position embeddings and its tokenizer allow, where they say so."""
        return longest_input(self.model.config)


# Their position ids start behind the padding id (1), so two rows of the table are never used.
_POSITIONS_AFTER_PADDING = {
    "roberta",
    "xlm-roberta",
    "camembert",
    "longformer",
    "xlm-roberta-xl",
    "roberta-prelayernorm",
}


def longest_input(config: PretrainedConfig) -> int | None:
    """Return the longest input that a model's position embeddings allow, where its config says so."""
    limits = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
    known = [int(limit) for limit in limits if isinstance(limit, int) and limit > 0]
    if known and getattr(config, "model_type", "") in _POSITIONS_AFTER_PADDING:
        known = [limit - 2 for limit in known]
    return min(known, default=None)


def load_tokenizer(settings: ModelSettings, *, alone: bool = False) -> PreTrainedTokenizerBase:
    """Load the tokenizer alone.

    Args:
        settings: name and revision.
        alone: whether a folder of a tokenizer without a model will do.

    Raises:
        ModelError: if it is not there or cannot be read.
    """
    from transformers import AutoTokenizer

    check_name(settings, config=not alone)
    try:
        with hub_mode(settings.name):
            return AutoTokenizer.from_pretrained(settings.name, revision=settings.revision or "main")
    except Exception as error:  # tokenizers raises bare ones
        raise ModelError(
            f"model.name={settings.name!r}: the tokenizer cannot be loaded: "
            f"{first_line(error).rstrip('.')}{_no_folder(settings)}"
        ) from error


def load_longest_input(settings: ModelSettings) -> int | None:
    """Return `longest_input` without loading the weights.

    Raises:
        ModelError: if the model's config is not there or cannot be read.
    """
    from transformers import AutoConfig

    check_name(settings)
    try:
        with hub_mode(settings.name):
            return longest_input(AutoConfig.from_pretrained(settings.name, revision=settings.revision or "main"))
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(f"model.name={settings.name!r}: the config cannot be loaded: {first_line(error)}") from error


def reads(settings: ModelSettings) -> tuple[int | None, bool]:
    """Return `longest_input`, and whether inputs and answers have parts of the model of their own (T5, BART).

    Of a folder that holds a tokenizer alone nothing is known.

    Raises:
        ModelError: if the model's config cannot be read.
    """
    from transformers import AutoConfig

    folder = Path(settings.name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        return None, False
    longest = load_longest_input(settings)
    config = AutoConfig.from_pretrained(settings.name, revision=settings.revision or "main")
    return longest, bool(config.is_encoder_decoder)


def load_model(
    settings: ModelSettings, *, labels: int, seed: int, tokenizer: PreTrainedTokenizerBase | None = None
) -> LoadedModel:
    """Load model and tokenizer, in eval mode, on the chosen device, without touching the global random state.

    A causal model reads a few tokens, to see whether it is one.

    Args:
        settings: family, name, precision, device.
        labels: number of outputs of a classification head (1 for regression); used by `kind="head"` only.
        seed: weights that the folder does not hold (a new head) are drawn from the stream (seed, "new weights").
        tokenizer: the model's tokenizer, where it is loaded already.

    Raises:
        ModelError: unknown folder or id, wrong architecture, unknown or unavailable device, missing weights,
            integers that cannot be made here.
    """
    import torch
    import transformers

    tokenizer = load_tokenizer(settings) if tokenizer is None else tokenizer
    device = pick_device(settings.device)
    arguments: dict[str, Any] = {"revision": settings.revision or "main", "dtype": getattr(torch, settings.dtype)}
    arguments |= (placed := placing(settings, device))
    if settings.attention != "auto":
        arguments["attn_implementation"] = settings.attention
    if isinstance(settings, HeadModel):
        arguments["num_labels"] = labels
    loader = getattr(transformers, settings.loader)
    with torch_seeded(derive(seed, "new weights")), quiet(), hub_mode(settings.name):
        try:
            model, report = loader.from_pretrained(settings.name, output_loading_info=True, **arguments)
        except Exception as error:  # safetensors, pickle and each architecture have their own
            why = first_line(error)
            if why.startswith("Unrecognized configuration class"):
                why = f"transformers has no such form of its architecture{_meant(settings)}"
            text = f"model.name={settings.name!r}: cannot be loaded as a {settings.kind} model: {why}"
            raise ModelError(text) from error
    if not isinstance(settings, HeadModel):
        _check_complete(settings, model, report)
    if settings.kind == "seq2seq":
        _set_start(settings, model, tokenizer)
    _set_padding(model, tokenizer)
    if not placed:
        model = model.to(device)
    model.eval()
    if settings.kind == "causal":
        with torch_seeded(derive(seed, "direction")), quiet():
            check_direction(settings, model)
    return LoadedModel(model, tokenizer, settings, fingerprint(settings))


def fingerprint(settings: ModelSettings) -> str:
    """Return a short digest of the files of a model folder, or a hub id with the commit of its copy on this machine.

    Weights, configs and tokenizer files count, a README does not. Of each file, size and first and last MiB are read: a
    change of weights changes some sampled tensor bytes in practice, and 100 GB need not be read. A hub id without a
    copy here is told by its revision.
    """
    folder = Path(settings.name)
    if not folder.is_dir():
        return f"{settings.name}@{_commit_here(settings) or settings.revision or 'main'}"
    sha = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.suffix in _COUNTED and path.is_file()):
        size = path.stat().st_size
        sha.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            sha.update(file.read(_SAMPLE))
            file.seek(max(_SAMPLE, size - _SAMPLE))
            sha.update(file.read(_SAMPLE))
    return sha.hexdigest()[:16]


def is_still(settings: ModelSettings, known: str | None) -> bool:
    """Return whether a model is what it was when `known` was its fingerprint.

    A hub id without a copy here is taken to be: nothing on this machine says otherwise.
    """
    if known == fingerprint(settings):
        return True
    gone = not Path(settings.name).is_dir() and _commit_here(settings) is None
    return gone and known is not None and known.startswith(f"{settings.name}@")


def _commit_here(settings: ModelSettings) -> str | None:
    """Return the commit of the copy of a hub id in the hub's cache on this machine, without asking the hub."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(settings.name, "config.json", revision=settings.revision or "main")
    except HFValidationError:
        return None
    return Path(found).parent.name if isinstance(found, str) else None


def check_name(settings: ModelSettings, *, config: bool = True) -> None:
    """Refuse a path that is not there before transformers asks a hub for it, over and over where there is no network.

    Between a folder here and a hub's organisation of that name, `revision` decides: folders have none.

    Raises:
        ModelError: if it is a path that is not there, or a folder that holds no model.
    """
    path = Path(settings.name)
    if path.is_dir():
        if settings.revision is not None:
            raise ModelError(
                f"model.revision={settings.revision!r} is for the hub, "
                f"and model.name={settings.name!r} is a folder here; "
                "leave it out, or call the command from another folder if you mean the hub's"
            )
        if config and not (path / "config.json").is_file():
            inside = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
            raise ModelError(f"model.name={settings.name!r}: the folder has no config.json; it holds {inside}")
        return
    if path.is_file():
        raise ModelError(f"model.name={settings.name!r} is a file, where a folder or a name of the hub is meant")
    if path.is_absolute() or settings.name.startswith(("./", "../", "~")) or settings.name.count("/") > 1:
        raise ModelError(f"model.name={settings.name!r}: there is no such folder{suggest(path.name, _beside(path))}")
    if settings.revision is None and "/" in settings.name and (models := _beside(path, "config.json")):
        raise ModelError(
            f"model.name={settings.name!r}: there is no such folder{suggest(path.name, models)}; "
            "if you mean the hub's, add model.revision=main"
        )


def _beside(path: Path, holding: str = ".") -> list[str]:
    """Return the names of the folders beside `path` that hold a file."""
    parent = path.parent
    return (
        [entry.name for entry in parent.iterdir() if entry.is_dir() and (entry / holding).exists()]
        if parent.is_dir()
        else []
    )


def _no_folder(settings: ModelSettings) -> str:
    return "" if Path(settings.name).is_dir() else "; nor is there a folder of this name here"


def _set_start(settings: ModelSettings, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make sure that the model names what its decoder begins with: the start token, and BART's begin token after it.

    Pretraining put the tokens in front of an answer that the tokenizer puts in front of a text; not all checkpoints
    say so, and without them BART writes rubbish.
    """
    config = model.generation_config
    if config is None or config.decoder_start_token_id is None:
        raise ModelError(
            f"model.name={settings.name!r}: it does not say which token its decoder begins with; "
            "put decoder_start_token_id into its config.json"
        )
    opening = tokenizer.encode("", verbose=False)[:1]
    begins = opening == [tokenizer.bos_token_id] and opening != [config.decoder_start_token_id]
    if config.forced_bos_token_id is None and begins and opening != [tokenizer.eos_token_id]:
        config.forced_bos_token_id = opening[0]


def _set_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    if (model.config.pad_token_id or 0) < 0:  # some old Llama configs say -1
        model.config.pad_token_id = None
    if model.config.pad_token_id is None and tokenizer.pad_token_id is not None:
        model.config.pad_token_id = tokenizer.pad_token_id


def _meant(settings: ModelSettings) -> str:
    """Return the tail of a message: the kind that a model's architecture has, those with prompts first."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(settings.name, revision=settings.revision or "main")
    kinds = sorted(MODEL_KINDS.items(), key=lambda entry: not entry[1].prompted)
    fitting = [name for name, kind in kinds if type(config) in getattr(transformers, kind.architectures)]
    # Causal forms of models that see both ways are for other uses.
    best = "masked" if "masked" in fitting else next(iter(fitting), None)
    return "" if best is None else f"; is model.kind={best!r} meant?"


def _check_complete(settings: ModelSettings, model: PreTrainedModel, report: dict[str, Any]) -> None:
    """Refuse a checkpoint without its language-model head: scores from random weights would look like a weak model."""
    tied = set(getattr(model, "_tied_weights_keys", None) or ())
    missing = sorted(key for key in report["missing_keys"] if key not in tied)
    if missing:
        shown = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        raise ModelError(
            f"model.name={settings.name!r}: the checkpoint lacks weights of {type(model).__name__}: {shown}; "
            'a model without a language-model head can be used with model.kind="head"'
        )
