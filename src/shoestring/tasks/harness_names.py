"""What the lm-evaluation-harness calls the tasks whose data sets are known here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Names and data sets as in EleutherAI/lm-evaluation-harness 4e7e0d47 (lm_eval/tasks/*). Of data sets that lie on the
# hub under several names, ours.
_BY_DATA_SET: dict[str, dict[str | None, str]] = {
    "nyu-mll/glue": {name: name for name in ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "wnli")},
    "aps/super_glue": {
        **{name: name for name in ("boolq", "cb", "copa", "multirc", "record", "wic")},
        "rte": "sglue_rte",
        "wsc.fixed": "wsc",
    },
    "google/boolq": {None: "boolq"},
    "ucinlp/drop": {None: "drop"},
    "allenai/sciq": {None: "sciq"},
    "allenai/social_i_qa": {None: "social_iqa"},
    "allenai/swag": {"regular": "swag"},
    "allenai/winogrande": {"winogrande_xl": "winogrande"},
    "google-research-datasets/nq_open": {None: "nq_open"},
}
IMPORTED = "harness"
"""Name of the template of a task that `shoestring tasks import` made, and only of such."""


def harness_name(task: Mapping[str, Any]) -> str | None:
    """Return the harness's name of the task on the same data set, where one is known.

    It asks in words of its own, unless the task was imported from there.

    Args:
        task: a task as plain JSON values, such as a record has.
    """
    if IMPORTED in task["templates"]:
        return str(task["name"])
    hub = task["sources"]["hub"]
    return None if hub is None else _BY_DATA_SET.get(hub["id"], {}).get(hub["config"])
