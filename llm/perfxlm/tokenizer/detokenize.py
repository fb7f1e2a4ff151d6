"""Text of tokens as they are generated: whole characters only, and nothing that may turn out to begin a stop string."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterable, Sequence

from perfxlm.tokenizer.base import Tokenizer


class StopStrings:
    """Finds the first of many strings in a stream of text, in one step per character.

    The automaton of Aho and Corasick ("Efficient string matching", 1975). Of the strings that end at the
    same place the longest is found.
    Immutable once built, so that requests with the same strings can share it.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        """strings: not empty, each."""
        self._next: list[dict[str, int]] = [{}]
        self._match: list[str | None] = [None]
        self.depth: list[int] = [0]
        for string in strings:
            self._insert(string)
        self._fail = self._failures()

    def __bool__(self) -> bool:
        return len(self._next) > 1

    def step(self, state: int, character: str) -> int:
        """The state after one more character; `depth[state]` characters behind it may begin a stop string."""
        while True:
            following = self._next[state].get(character)
            if following is not None:
                return following
            if state == 0:
                return 0
            state = self._fail[state]

    def match(self, state: int) -> str | None:
        """The stop string that ends in this state."""
        return self._match[state]

    def _insert(self, string: str) -> None:
        state = 0
        for character in string:
            following = self._next[state].get(character)
            if following is None:
                following = self._next[state][character] = len(self._next)
                self._next.append({})
                self._match.append(None)
                self.depth.append(self.depth[state] + 1)
            state = following
        self._match[state] = string

    def _failures(self) -> list[int]:
        """For each state the longest proper suffix that is a state too, in order of depth."""
        fail = [0] * len(self._next)
        queue = deque(self._next[0].values())
        while queue:
            state = queue.popleft()
            for character, following in self._next[state].items():
                queue.append(following)
                fail[following] = self._step_from(fail, fail[state], character)
                if self._match[following] is None:
                    self._match[following] = self._match[fail[following]]
        return fail

    def _step_from(self, fail: list[int], state: int, character: str) -> int:
        while state and character not in self._next[state]:
            state = fail[state]
        return self._next[state].get(character, 0)


class IncrementalDetokenizer:
    """Text of one sequence, token by token; each token costs the same however long the text is.

    Bytes of a character that is not complete are held back, and so are characters that may begin a stop string. After
    `finish` all text that was returned, joined, equals `Tokenizer.decode` of the tokens, up to the stop string.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: StopStrings | Sequence[str] = (),
        *,
        include_stop_str_in_output: bool = False,
        skip_special_tokens: bool = True,
        min_tokens: int = 0,
        at_text_start: bool = False,
    ) -> None:
        """stop: strings that end the text if they end after more than `min_tokens` tokens.

        at_text_start: no prompt comes before, so that the space that some tokenizers put before a text is taken away;
        else the text goes on after a prompt and keeps its first space.
        """
        self._tokenizer = tokenizer
        self._stop = stop if isinstance(stop, StopStrings) else StopStrings(stop)
        self._include_stop = include_stop_str_in_output
        self._skip_special = skip_special_tokens
        self._min_tokens = min_tokens
        self._strip_space = at_text_start and tokenizer.strips_leading_space
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._state = 0
        self.num_tokens = 0
        self.stop_string: str | None = None

    def append(self, token_ids: Iterable[int]) -> str:
        """Takes tokens and returns the text that is certain now, perhaps none.

        When a stop string is complete, `stop_string` is set and later tokens are ignored; `num_tokens` counts those
        taken.
        """
        released: list[str] = []
        for token_id in token_ids:
            if self.stop_string is not None:
                break
            self.num_tokens += 1
            text = self._decoder.decode(self._bytes_of(token_id))
            released.append(self._search(text) if self._stop and text else text)
        return "".join(released)

    def finish(self) -> str:
        """The text that was held back: call it after the last token. An incomplete character becomes U+FFFD."""
        if self.stop_string is not None:
            return ""
        text = self._decoder.decode(b"", final=True)
        text = self._search(text) if self._stop and text else text
        held, self._held, self._state = self._held, "", 0
        return text + held

    def _bytes_of(self, token_id: int) -> bytes:
        if self._tokenizer.is_control(token_id):
            self._strip_space = self._strip_space and self._skip_special
            return b"" if self._skip_special else self._tokenizer.id_to_bytes(token_id)
        found = self._tokenizer.id_to_bytes(token_id)
        if self._strip_space:
            self._strip_space = False
            return found.removeprefix(b" ")
        return found

    def _search(self, new: str) -> str:
        """Runs the automaton over new text; returns what no stop string can begin in, and holds the rest."""
        text = self._held + new
        state, stop = self._state, self._stop
        for position in range(len(self._held), len(text)):
            state = stop.step(state, text[position])
            found = stop.match(state)
            if found is not None and self.num_tokens > self._min_tokens:
                self.stop_string, self._held = found, ""
                end = position + 1
                return text[: end if self._include_stop else end - len(found)]
        self._state = state
        end = len(text) - stop.depth[state]
        self._held = text[end:]
        return text[:end]
