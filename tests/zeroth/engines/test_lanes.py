"""Where the rows of a repeated batch are, and what happens to closures that lose them."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from shoestring.zeroth import MeZO
from shoestring.zeroth.closures import PerExample
from shoestring.zeroth.engines.paired import PairedEngine

pytestmark = pytest.mark.usefixtures("frozen_imports")
Losses = Callable[[nn.ParameterDict, dict[str, Tensor]], Tensor]
N, L, H = 3, 4, 5


def weights() -> nn.ParameterDict:
    stream = torch.Generator().manual_seed(0)
    shapes = {
        "square": (H, H),
        "row": (H,),
        "prefix": (1, 2, H),
        "table": (7, H),
        "rows": (2, H),
        "step": (),
        "six": (6, H),
    }
    return nn.ParameterDict(
        {name: torch.randn(shape, generator=stream, dtype=torch.float64) for name, shape in shapes.items()}
    )


def batch() -> dict[str, Tensor]:
    stream = torch.Generator().manual_seed(1)
    x = torch.randn(N, L, H, generator=stream, dtype=torch.float64)
    return {"x": x, "ids": torch.randint(0, 7, (N, L), generator=stream), "place": torch.tensor([2, 0, 3])}


def run(losses: Losses, engine: Any, steps: int = 2) -> tuple[list[float], MeZO]:
    """Return projected gradients of a few steps on a function of weights and a batch."""
    own = weights()
    optimizer = MeZO(own.named_parameters(), lr=1e-3, eps=1e-3, seed=2, engine=engine)
    grads = []
    for _ in range(steps):
        optimizer.step(PerExample(lambda batch: losses(own, batch), [batch()]))
        grads += optimizer.last_projected_grads
    return grads, optimizer


def mean(x: Tensor) -> Tensor:
    return x.square().flatten(1).mean(1)


def pooled_at_places(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    x = functional.linear(batch["x"], w["square"])
    return mean(x[torch.arange(len(x)), batch["place"]] * w["row"])


def narrowed(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    rows = torch.arange(len(batch["x"]))[:, None]
    return mean(functional.linear(batch["x"][rows, batch["place"][:, None]], w["square"]))


def few_rows_of_a_head(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    """As many rows as there are in the repeated batch, which must not be taken for its own."""
    logits = functional.linear(batch["x"][:, -1], w["table"][torch.tensor([1, 4, 6, 0, 2, 3])])
    return functional.cross_entropy(logits, batch["place"], reduction="none")


def as_many_outputs_as_rows(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    return mean(batch["x"][:, 0] @ (w["six"] * 2).T)


def prefix_in_front(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    x = torch.cat([w["prefix"].expand(len(batch["x"]), -1, -1), batch["x"]], 1)
    return mean(functional.layer_norm(x, (H,), w["row"], w["row"]))


def flattened(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    flat = batch["x"].view(-1, H)
    x = torch.addmm(w["row"], flat, w["square"]).view(batch["x"].shape)
    return mean(x + w["prefix"][:, :1])


def positions(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    places = functional.embedding(torch.arange(L)[None], w["table"])
    bias = (places @ places.transpose(1, 2))[:, None]
    x = functional.embedding(batch["ids"], w["table"]) + places
    scores = x[:, None] @ x[:, None].transpose(2, 3) + bias
    return mean(scores.softmax(-1))


def written_in_place(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    x = batch["x"].clone()
    x[:, :2] = w["prefix"]
    x[:, 2].add_(w["row"])
    x *= w["step"]
    x += w["prefix"][:, :1]
    return mean(x)


def into_a_buffer(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    buffer = torch.zeros(len(batch["x"]), H, dtype=torch.float64)
    buffer[:] = batch["x"][:, 1]
    return mean(buffer * w["row"])


def einsum(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    return mean(torch.einsum("nlh,kh->nlk", batch["x"], w["square"]))


def candidates(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    x = batch["x"].repeat_interleave(2, 0)
    return mean(functional.linear(x, w["square"]).view(len(batch["x"]), -1))


def recurrent(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    state = torch.zeros_like(batch["x"][:, 0])
    for place in range(L):
        state = torch.tanh(functional.linear(state + batch["x"][:, place], w["square"], w["row"]))
    return mean(state)


def convolved(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    return mean(functional.conv1d(batch["x"].transpose(1, 2), w["square"][:, :, None], w["row"]))


def parts(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    one, other = functional.linear(batch["x"], w["square"]).split([2, 3], dim=-1)
    largest = (batch["x"] * w["row"]).max(-1)
    return mean(one) + mean(other) + largest.values.mean(1)


def sequence_first(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    x = functional.linear(batch["x"].transpose(0, 1), w["square"])
    return mean(x.transpose(0, 1))


def expert_of_some_tokens(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    flat = batch["x"].reshape(-1, H)
    chosen = flat[:, 0] > 0
    out = torch.zeros_like(flat)
    out[chosen] = functional.linear(flat[chosen], w["square"])
    return mean(out.view(batch["x"].shape))


def own_size(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    return mean(functional.linear(batch["x"].view(N, L, H), w["square"]))


def depends_on_others(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    x = functional.linear(batch["x"], w["square"])
    return mean(x - x.flatten(1).roll(1, 0).view_as(x))


def mixed_out_of_sight(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    """The rows of all points averaged where no torch function is seen to do it."""
    x = functional.linear(batch["x"], w["square"])
    mixed = x.numpy()
    mixed[:] = mixed.mean(0, keepdims=True)
    return mean(x)


def branching_on_weights(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    sign = 1.0 if float((w["row"] * 1e3).sum().round()) % 2 else -1.0
    return mean(batch["x"] * w["row"]) * sign


def one_buffer_for_all_points(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    shared = torch.zeros(H, dtype=torch.float64)
    shared += w["row"]
    return mean(batch["x"] * shared)


def one_loss(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    return mean(batch["x"] * w["row"]).mean()[None]


def one_number(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    return mean(batch["x"]) + torch.dist(batch["x"], w["row"])


def along_the_rows(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    return mean(batch["x"]) + functional.cosine_similarity(batch["x"], w["row"].expand(1, 1, H), dim=0).sum()


def joined_to_the_rows(w: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
    return mean(torch.cat([batch["x"], w["table"][None, :4]])[: len(batch["x"])]) * w["step"]


REPEATED: list[Losses] = [
    pooled_at_places, narrowed, few_rows_of_a_head, as_many_outputs_as_rows, prefix_in_front, flattened, positions,
    written_in_place, into_a_buffer, einsum, candidates, recurrent, convolved, parts,
]  # fmt: skip
APART: dict[Losses, str] = {
    sequence_first: "stopped at linear, of weights and what transpose gives",
    expert_of_some_tokens: "stopped at linear, of weights and what __getitem__ gives",
    own_size: r"failed: shape '\[3, 4, 5\]' is invalid",
    depends_on_others: r"stopped at the losses, of shape \[6\], after roll",
    branching_on_weights: "stopped at __float__, which gives .* at the points",
    one_buffer_for_all_points: "stopped at add_, which writes what differs by point into a tensor that is one",
    mixed_out_of_sight: r"stopped at the losses, which are .* together and .* one by one",
    one_number: "stopped at dist, whose result is one number;",
    along_the_rows: r"stopped at cosine_similarity, whose result has the shape \[8, 5\];",
    joined_to_the_rows: "stopped at cat;",
    one_loss: r"stopped at the losses, of shape \[1\]",
}


@pytest.mark.parametrize("engine", [{"kind": "paired"}, {"kind": "paired", "small": 0, "tile": 10}], ids=str)
@pytest.mark.parametrize("losses", REPEATED)
def test_what_keeps_rows_apart_is_repeated_and_equals_replay(losses: Losses, engine: Any) -> None:
    wanted, _ = run(losses, "replay")
    found, optimizer = run(losses, engine)
    assert found == pytest.approx(wanted, rel=1e-9, abs=1e-10)
    assert isinstance(optimizer.engine, PairedEngine)
    assert optimizer.engine.repeats


@pytest.mark.parametrize("losses", APART)
def test_what_does_not_is_evaluated_point_by_point_with_one_warning(
    losses: Losses, caplog: pytest.LogCaptureFixture
) -> None:
    wanted, _ = run(losses, "replay")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        found, optimizer = run(losses, "paired", steps=2)
    assert found == pytest.approx(wanted, rel=1e-9, abs=1e-10)
    assert isinstance(optimizer.engine, PairedEngine)
    assert optimizer.engine.repeats is False
    messages = [record.getMessage() for record in caplog.records if "repeated" in record.getMessage()]
    assert len(messages) == 1
    assert re.search(APART[losses], messages[0]), messages[0]


class Counting(nn.Module):
    """Writes into buffers while it runs, keeps another one anew, and what it computed."""

    added: Tensor
    replaced: Tensor
    set: Tensor
    out: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(H, 1).double()
        self.kept: Tensor | None = None
        for name in ("added", "replaced", "set"):
            self.register_buffer(name, torch.zeros(16, H, dtype=torch.float64))
        self.register_buffer("out", torch.zeros(2 * N, H, dtype=torch.float64))
        self.fails = False

    def forward(self, x: Tensor) -> Tensor:
        self.added += x.sum(0)
        self.replaced = self.replaced + x.sum(0)
        self.set[: len(x)] = x
        if len(x) == len(self.out):
            torch.mul(x, 2.0, out=self.out)
        self.kept = x * 2
        if self.fails and len(x) > N:
            raise RuntimeError("out of paper")
        return self.layer(x)[:, 0]


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_stays_on_buffers_that_a_repeated_batch_was_written_into(fails: bool) -> None:
    model = Counting()
    closure = PerExample(lambda batch: model(batch["x"]).square(), [{"x": batch()["x"][:, 0]}])
    optimizer = MeZO(model.named_parameters(), lr=1e-3)
    optimizer.step(closure)
    assert isinstance(optimizer.engine, PairedEngine)
    assert optimizer.engine.repeats
    model.fails = fails
    optimizer.step(closure)
    assert optimizer.engine.repeats is not fails
    assert model.kept is not None
    saved = dict(model.named_buffers()) | {"kept": model.kept}
    assert [vars(value) for value in saved.values()] == [{}] * 5
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    assert torch.load(file, weights_only=True).keys() == saved.keys()


def test_losses_written_into_memory_of_the_users_are_told_apart() -> None:
    room = torch.zeros(2 * N, dtype=torch.float64)

    def losses(own: nn.ParameterDict, batch: dict[str, Tensor]) -> Tensor:
        found = mean(functional.linear(batch["x"], own["square"]))
        if len(found) < len(room):
            return found
        room[:] = found
        return room

    grads, optimizer = run(losses, "paired")
    assert isinstance(optimizer.engine, PairedEngine)
    assert optimizer.engine.repeats
    assert grads == pytest.approx(run(losses, "replay")[0], rel=1e-8)
