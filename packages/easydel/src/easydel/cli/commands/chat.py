"""`easydel chat MODEL`: a conversation, answer by answer, as the tokens come."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, final

import tyro
from easydata_sources.safe_text import printable
from rich.text import Text

from easydel.cli.generation import Sampling, load_language_model, prompt_ids, streamed
from easydel.cli.output.console import harmless_console
from easydel.cli.output.errors import EXIT_OK
from easydel.cli.settings.command_line import parse_flags

_SAMPLING = Sampling(max_new_tokens=512, temperature=0.7, top_p=0.95)
_WORDS = """\
/reset         forget the conversation
/undo          forget the last question and its answer
/system TEXT   change the system message, and start over
/exit          leave; so does the end of input (Ctrl-D)"""


@final
@dataclass(frozen=True, kw_only=True)
class ChatFlags:
    """Talk to a model; it remembers the conversation.

    Behind the prompt, /help lists what else can be typed. Piped in, every line is a turn, and only answers are printed.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Folder, Hub id, .gguf file, or package://PACKAGE/FILE."""
    system: str | None = None
    """System message. None = what the chat template puts there by itself."""
    adapter: str | None = None
    """Folder of PEFT adapters to put on the model."""
    tokenizer: str | None = None
    """Folder, Hub id or .gguf file of the tokenizer. None = the model's own."""
    sampling: Annotated[Sampling, tyro.conf.arg(name="")] = _SAMPLING


def run(words: Sequence[str], command: str) -> int:
    """Carries out one command line; returns the exit code."""
    flags = parse_flags(ChatFlags, words, command=f"easydel {command}")
    model, tokenizer = load_language_model(flags.model, adapter=flags.adapter, tokenizer=flags.tokenizer)
    _Conversation(model, tokenizer, flags.sampling, flags.system).hold()
    return EXIT_OK


class _Conversation:
    """Turns so far, and the next ones."""

    def __init__(self, model: Any, tokenizer: Any, sampling: Sampling, system: str | None):
        self._model, self._tokenizer, self._sampling = model, tokenizer, sampling
        self._system = system
        self._turns: list[dict[str, str]] = []
        self._console = harmless_console()
        self._talking = sys.stdin.isatty() and self._console.is_terminal

    def hold(self) -> None:
        """Answer every line until the input ends."""
        if self._talking:
            self._console.print(Text("/help lists what else can be typed, Ctrl-D ends.", style="dim"))
        for line in self._lines():
            word, _, rest = line.partition(" ")
            if word in ("/exit", "/quit"):
                return
            if not self._obeyed(word, rest.strip()):
                self._answer(line)

    def _lines(self) -> Iterator[str]:
        while True:
            try:
                line = input("you> " if self._talking else "").strip()
            except EOFError:
                return
            if line:
                yield line

    def _obeyed(self, word: str, rest: str) -> bool:
        match word:
            case "/help":
                self._console.print(Text(_WORDS))
            case "/reset":
                self._turns.clear()
            case "/undo":
                del self._turns[-2:]
            case "/system":
                self._system = rest or None
                self._turns.clear()
            case _:
                return False
        return True

    def _answer(self, line: str) -> None:
        before = [] if self._system is None else [{"role": "system", "content": self._system}]
        asked = [*self._turns, {"role": "user", "content": line}]
        prompt = prompt_ids(self._tokenizer, [*before, *asked])
        if self._talking:
            self._console.print(Text("model> ", style="bold green"), end="")
        pieces: list[str] = []
        try:
            for piece in streamed(self._model, self._tokenizer, prompt, self._sampling):
                pieces.append(piece)
                print(printable(piece), end="", flush=True)
        except KeyboardInterrupt:  # ends the answer, not the conversation
            if not self._talking:
                raise
        print(flush=True)
        self._turns = [*asked, {"role": "assistant", "content": "".join(pieces)}]
