"""Writes tests/golden/template_masks.json: for each chat template that TRL has a training version of (trl 1.16, trl/chat_templates,
Apache-2.0), which characters of some conversations the training version marks as the assistant's. Run with trl 1.16 and
transformers 5.24 installed:

    python tests/golden/generator/template_masks.py

The templates themselves are not kept here: the test that reads the file takes them from an installed trl (LAPIDARY_TRL). A
conversation counts where the training version prints the same text as the original; where it does not (it keeps thoughts of
earlier turns, for instance) or where either raises an error, there is null.
"""
import copy
import datetime
import hashlib
import json
import os
from pathlib import Path

import transformers
import trl
from transformers.utils import chat_template_utils

OUT = Path(__file__).resolve().parents[1] / "template_masks.json"
SPECIAL = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
NOW = 1764003723


class Fixed(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc)


chat_template_utils.datetime = Fixed


def user(content):
    return {"role": "user", "content": content}


def said(content, **more):
    return {"role": "assistant", "content": content, **more}


def call(name, **arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def parts(*texts):
    return [{"type": "text", "text": text} for text in texts]


TOOLS = [{"type": "function", "function": {"name": "find", "description": "Finds things.", "parameters": {
    "type": "object", "properties": {"what": {"type": "string", "description": "What to find."},
                                     "n": {"type": "integer", "description": "How many."}}, "required": ["what"]}}}]
CONVERSATIONS = [
    {"messages": [user("Where is the otter?"), said("In the river.")]},
    {"messages": [user("One?"), said("1"), user("Two?"), said("2\nor II"), user("Three 😀?"), said("drei 😀")]},
    {"messages": [{"role": "system", "content": "Be brief."}, user("Hi"), said("Hello."), user("Bye"), said("See you.")]},
    {"messages": [user("Why?"), said("Because.", reasoning_content="Let me think."), user("And?"), said("So.", reasoning_content="Hm.")]},
    {"messages": [user("Why?"), said("<think>\nLet me think.\n</think>\n\nBecause.")]},
    {"messages": [user("Find it."), said("", tool_calls=[call("find", what="otter", n=2)]),
                  {"role": "tool", "name": "find", "content": "river"}, said("It is in the river.")], "tools": TOOLS},
    {"messages": [user("Find it."), said("Looking.", tool_calls=[call("find", what="otter")]),
                  {"role": "tool", "name": "find", "content": "{\"where\": \"river\"}"}, said("In the river."), user("Thanks"),
                  said("Welcome.")], "tools": TOOLS},
    {"messages": [{"role": "system", "content": "Be brief."}, user("Find both."),
                  said("", tool_calls=[call("find", what="otter"), call("find", what="fig")]),
                  {"role": "tool", "name": "find", "content": "river"}, {"role": "tool", "name": "find", "content": "tree"},
                  said("River and tree.")], "tools": TOOLS},
    {"messages": [user("Where?"), said("Here."), user("Open end")]},
    {"messages": [user(parts("Where?")), said(parts("Here.")), user(parts("Sure?")), said(parts("Yes."))]},
    {"messages": [user("Empty?"), said("")]},
    {"messages": [user("  blanks  "), said("  around  \n")]},
]


def render(template, conversation, marks):
    text, spans = chat_template_utils.render_jinja_template(
        [copy.deepcopy(conversation["messages"])], tools=copy.deepcopy(conversation.get("tools")), chat_template=template,
        return_assistant_tokens_mask=marks, **SPECIAL)
    return text[0], spans[0] if marks else []


def merged(spans):
    """Spans that touch are one to a mask."""
    out = []
    for start, end in spans:
        if start == end:
            continue
        if out and out[-1][1] == start:
            out[-1][1] = end
        else:
            out.append([start, end])
    return out


def expected(original, trained, conversation):
    try:
        text, _ = render(original, conversation, False)
        same, spans = render(trained, conversation, True)
    except Exception:
        return None
    return {"text": hashlib.sha256(text.encode()).hexdigest()[:16], "spans": merged(spans)} if text == same else None


def main(sources: bool = False, out: Path = OUT) -> None:
    folder = Path(os.path.dirname(trl.__file__)) / "chat_templates"
    templates = []
    for path in sorted(folder.glob("*_training.jinja")):
        name = path.name.removesuffix("_training.jinja")
        original = (folder / f"{name}.jinja").read_text()
        case = {"name": name, "expected": [expected(original, path.read_text(), c) for c in CONVERSATIONS]}
        templates.append({**case, "source": original} if sources else case)
    made = f"trl {trl.__version__}, transformers {transformers.__version__}"
    document = {"made with": made, "now": NOW, "special": SPECIAL, "conversations": CONVERSATIONS, "templates": templates}
    lines = ",\n".join(json.dumps(t) for t in templates)
    head = json.dumps({k: v for k, v in document.items() if k != "templates"}, ensure_ascii=False)
    out.write_text(head[:-1] + ', "templates": [\n' + lines + "\n]}\n")
    counted = sum(e is not None for t in templates for e in t["expected"])
    print(len(templates), "templates,", counted, "conversations that count of", len(templates) * len(CONVERSATIONS))


if __name__ == "__main__":
    main()
