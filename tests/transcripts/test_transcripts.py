"""The stories are told as they are kept; see `tests.transcripts.stories` for how to change them on purpose."""

from __future__ import annotations

import pytest

from tests.transcripts.stories import STORIES, Story, path_of, tell


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_the_story_is_told_as_it_is_kept(story: Story) -> None:
    assert tell(story) == path_of(story).read_text("utf-8"), "if this was meant: python -m tests.transcripts.stories"
