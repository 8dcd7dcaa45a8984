"""Which part of a completion is its answer: past the thinking, in the final channel, before the next turn."""

import re
from dataclasses import dataclass

_TURN_END = (
    r"<\|(?:im_end|im_start|endoftext|end_of_text|eot_id|eom_id|start_header_id|end|start|eos|return|call|user|assistant"
    r"|system|pad|end_of_sentence)\|>|</s>|<(?:end|start)_of_turn>|<eos>|<｜end▁of▁sentence｜>"
)
_THOUGHT = r"(?:think(?:ing)?|reasoning|thoughts?)"
_OPEN = rf"<{_THOUGHT}\s*+>|\[{_THOUGHT}\]"
_CLOSE = rf"</{_THOUGHT}\s*+>|\[/{_THOUGHT}\]"
_CHANNEL = r"<\|channel\|>\s*+(\w*+)[^<]{0,200}+(?:<\|constrain\|>[^<]{0,40}+)?<\|message\|>"
# A mark inside a complete string of JSON is text: `"o site mostra </think> na tela",`.
_STRING = r'(?P<string>[:,\[{]\s*+"(?:[^"\\\n]++|\\.)*+"(?=\s*+[,:}\]]))'
_MARK = re.compile(
    rf"{_STRING}|(?P<open>{_OPEN})|(?P<close>{_CLOSE})|(?P<turn>{_TURN_END})|(?P<channel><\|channel\|>)",
    re.IGNORECASE,
)
_ANY_MARK = re.compile(rf"{_OPEN}|{_CLOSE}|{_TURN_END}|<\|channel\|>", re.IGNORECASE)
_CHANNEL_START = re.compile(_CHANNEL)
_CHANNEL_END = re.compile(rf"{_STRING}|(?P<end><\|(?:end|return|call|start|channel)\|>)")
_HEADER = re.compile(
    r"\s*(?:<\|im_start\|>\s*assistant|<\|start_header_id\|>\s*assistant\s*<\|end_header_id\|>"
    r"|<start_of_turn>\s*model|<\|assistant\|>|<\|start\|>\s*assistant(?!<\|channel))[ \t]*\n?"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer's text, and what was left out around it; without an answer (`text` is None), the reason."""

    text: str | None
    repairs: tuple[str, ...] = ()
    reason: str | None = None
    ended: bool = False
    """Whether a mark ended the turn, so that what stands last is whole."""


def answer_text(text: str) -> str | None:
    """What `text` answers, without thinking and later turns; None where thinking never ended, so nothing was answered.

    >>> answer_text("<think>hmm</think>SELECT 1<|im_end|>"), answer_text("<think>SELECT 1")
    ('SELECT 1', None)
    >>> answer_text("<|channel|>analysis<|message|>hmm<|end|><|start|>assistant<|channel|>final<|message|>Oi<|return|>")
    'Oi'
    """
    return read_answer(text).text


def read_answer(text: str) -> Answer:
    """`answer_text`, with the repairs it took and the reason for having no answer."""
    if not _ANY_MARK.search(text):
        return Answer(text)
    if "<|channel|>" in text and any(mark["channel"] for mark in _MARK.finditer(text)):
        return _final_channel(text)
    header = _HEADER.match(text)
    return _outside_of_thinking(text, header.end() if header else 0)


def _final_channel(text: str) -> Answer:
    """Harmony: each message names its channel, and only `final` is for the reader."""
    for message in _CHANNEL_START.finditer(text):
        if message[1].lower() == "final":
            end = next((mark for mark in _CHANNEL_END.finditer(text, message.end()) if mark["end"]), None)
            inner = _outside_of_thinking(text[message.end() : end.start() if end else len(text)], 0)
            ended = inner.ended or end is not None
            return Answer(inner.text, ("think_block", *inner.repairs), inner.reason, ended)
    return Answer(None, reason="no final channel")


def _outside_of_thinking(text: str, start: int) -> Answer:
    repairs = ["end_of_turn"] if start else []
    kept: list[str] = []
    opened = ended = False
    end = len(text)
    for mark in _MARK.finditer(text, start):
        if mark["string"] or mark["channel"]:
            continue
        if mark["turn"]:
            repairs.append("end_of_turn")
            end, ended = mark.start(), True
            break
        if not opened:
            kept.append(text[start : mark.start()])
        if mark["close"] and not opened:
            kept.clear()  # a closing mark alone: everything before it was thinking
        opened = mark["open"] is not None
        start = mark.end()
        repairs.append("think_block")
    if opened:
        return Answer(None, tuple(dict.fromkeys(repairs)), "thinking never closed")
    kept.append(text[start:end])
    return Answer("".join(kept), tuple(dict.fromkeys(repairs)), ended=ended)
