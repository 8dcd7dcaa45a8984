"""What of a completion is its answer: not the thinking, and nothing of the next turn."""

import re

_END_OF_TURN = (
    r"<\|(?:im_end|im_start|endoftext|end_of_text|end_of_turn|eot_id|eom_id|start_header_id|start|end|eos|return|user"
    r"|assistant|system|pad)\|>|</s>|<(?:end|start)_of_turn>|<eos>|<｜end▁of▁sentence｜>|\[INST\]"
)
_THINKING = r"think|thinking|thoughts?|reasoning"
_MARK = re.compile(
    rf"<(?P<open>{_THINKING})\b[^<>]{{0,80}}>|\[(?P<open_bracket>THINK)\]"
    rf"|(?P<close></(?:{_THINKING})\s*>|\[/THINK\])|(?P<end>{_END_OF_TURN})",
    re.IGNORECASE,
)
_TURN_HEADER = re.compile(
    r"\s*(?:<\|im_start\|>\s*assistant|<\|start_header_id\|>\s*assistant\s*<\|end_header_id\|>"
    r"|<start_of_turn>\s*model|<\|assistant\|>)[ \t]*\n?",
    re.IGNORECASE,
)
_CHANNEL = re.compile(
    r"<\|channel\|>\s*(?P<name>\w+)[^<]{0,80}<\|message\|>(?P<body>.*?)(?=<\|(?:end|return|start|channel|call)\|>|\Z)",
    re.DOTALL,
)


def answer_text(text: str) -> str:
    """The part of a completion that answers; "" where nothing was answered.

    Thinking blocks are left out. A block that never closes means that nothing was answered; a closing tag without an
    opening one, that all before it was thinking. Text after an end-of-turn token is another turn. Of harmony channels,
    the first `final` one is the answer. Time is linear in the text.

    >>> answer_text("<think>12 ou 13?</think>São 12.<|im_end|>E agora?")
    'São 12.'
    >>> answer_text("<think>12 ou 13?"), answer_text("12 ou 13?</think>12")
    ('', '12')
    """
    if "<|channel|>" in text:
        text = next((m["body"] for m in _CHANNEL.finditer(text) if m["name"] == "final"), "")
    header = _TURN_HEADER.match(text)
    start = header.end() if header else 0
    parts: list[str] = []
    thinking = False
    for mark in _MARK.finditer(text, start):
        if mark["end"]:
            return "" if thinking else "".join([*parts, text[start : mark.start()]])
        if mark["close"]:
            # Without an opening tag, all that came before was thinking: chat templates put the tag into the prompt.
            parts = parts if thinking else []
            start, thinking = mark.end(), False
        elif not thinking:
            parts.append(text[start : mark.start()])
            thinking = True
    return "" if thinking else "".join([*parts, text[start:]])
