"""Micro-batching: images of all clients are scored together, in order of arrival.

One thread owns the model. It passes all waiting images to the engine of `qfm score`, which fills
batches across images. A score does not depend on the other images, and equals that of `qfm score`.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from qfm_iqm.image.load import Reading
from qfm_iqm.image.resize import as_floats
from qfm_iqm.scoring.crop_stream import CroppedImage, with_crops
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.scoring.runtimes.base import Runtime
from qfm_iqm.scoring.scorer import Scorer

if TYPE_CHECKING:
    from qfm_iqm.model.model import QualityModel
    from qfm_iqm.model.quality_map import QualityMap

_TOGETHER = 64  # most images passed to the engine at once


@dataclass(frozen=True)
class _Waiting:
    """A waiting image, and whether a row or a map is requested."""

    image: Reading
    future: Future[Any]
    explain: bool


class Batcher:
    """The thread that runs the model.

    Args:
        model: the model for scores.
        explainer: returns the model for maps, at the first request for one; None takes `model`.
        device: a torch device name; None takes a GPU if there is one.
        observe: called with the number of images passed at once.

    Attributes:
        policy: how its images must be read.
    """

    def __init__(
        self,
        model: QualityModel | Runtime,
        *,
        explainer: Callable[[], QualityModel] | None = None,
        device: str | None = None,
        observe: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._observe = observe
        self._current: dict[str, CroppedImage] = {}
        self._explainer = explainer or (lambda: cast("QualityModel", model))
        self._scorer = Scorer(
            model, device=device, readers=1, source=self._current.__getitem__, causes=True
        )
        self.policy = self._scorer.policy
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue()
        self._thread = threading.Thread(target=self._serve, name="model", daemon=True)
        self._thread.start()

    def score(self, image: Reading) -> Future[ScoreRow]:
        """Queues an image for scoring; the path of its row is meaningless."""
        return self._put(image, explain=False)

    def explain(self, image: Reading) -> Future[QualityMap]:
        """Queues an image for a quality map."""
        return self._put(image, explain=True)

    def close(self) -> None:
        """Ends the thread when all waiting images are done."""
        self._waiting.put(None)
        self._thread.join()

    def _put(self, image: Reading, *, explain: bool) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting.put(_Waiting(image, future, explain))
        return future

    def _serve(self) -> None:
        ended = False
        while not ended:
            taken = [self._waiting.get()]
            while len(taken) < _TOGETHER:
                try:
                    taken.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            ended = None in taken
            # A disconnected client cancels its future, and its image is skipped.
            live = [w for w in taken if w is not None and w.future.set_running_or_notify_cancel()]
            self._score([waiting for waiting in live if not waiting.explain])
            for waiting in live:
                if waiting.explain:
                    self._explain(waiting)

    def _score(self, group: list[_Waiting]) -> None:
        if not group:
            return
        self._observe(len(group))
        cut: list[_Waiting] = []
        for waiting in group:
            try:  # a failure of one image must not affect the others
                self._current[str(len(cut))] = with_crops(waiting.image, self.policy.preprocessing)
                cut.append(waiting)
            except Exception as error:
                waiting.future.set_exception(error)
        try:
            for waiting, row in zip(cut, self._scorer.score_paths(self._current), strict=True):
                waiting.future.set_result(row)
        except Exception as error:  # no client may wait forever
            for waiting in cut:
                if not waiting.future.done():
                    waiting.future.set_exception(error)
        finally:
            self._current.clear()

    def _explain(self, waiting: _Waiting) -> None:
        try:
            waiting.future.set_result(self._explained(waiting.image))
        except Exception as error:
            waiting.future.set_exception(error)

    def _explained(self, image: Reading) -> QualityMap:
        import torch  # imported here: scoring may not need torch

        assert image.pixels is not None
        return self._explainer().explain(torch.from_numpy(as_floats(image.pixels)))
