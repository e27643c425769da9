"""What is kept of a photo for culling."""

from qfm_iqm.culling.sights import Seen, sight_of
from qfm_iqm.image.load import Reading
from qfm_iqm.scoring.row import ScoreRow


def test_only_a_scored_photo_has_content_to_compare():
    read = Seen("a.jpg", hash="00" * 8, layout="AAAA")
    scored = sight_of(ScoreRow("a.jpg", score=50.0), read)
    assert (scored.status, scored.layout) == ("ok", "AAAA")
    failed = sight_of(ScoreRow("a.jpg", status="error", error="no"), read)
    assert (failed.error, failed.layout) == ("no", "")
    video = sight_of(ScoreRow("a.jpg", score=50.0, frames=3), Reading("a.jpg"))
    assert (video.status, video.score, video.layout) == ("error", None, "")
