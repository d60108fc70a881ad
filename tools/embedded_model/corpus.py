"""The generated corpus: 13 small tasks, and one (``route``) that is never trained on.

A row is a short chat whose last message is the wanted answer. What a row is about (its ticket, its facts, its words)
is hashed, and one eighth of all hashes is kept out of training: ``draw(..., fresh=True)`` gives rows from that part
only. Tasks with a closed set of inputs (``CLOSED``) cannot be split so, and their rows may repeat.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import words as w


@dataclass(frozen=True)
class Row:
    """One exercise: ``subject`` is what is hashed for the split, ``turns`` are (role, text) pairs up to the question."""

    task: str
    subject: str
    turns: tuple[tuple[str, str], ...]
    answer: str

    @property
    def messages(self) -> list[dict[str, str]]:
        """The chat up to the question, in the form that a chat template takes."""
        return [{"role": role, "content": text} for role, text in self.turns]


@dataclass(frozen=True)
class Ticket:
    """One support ticket and what is known about it."""

    text: str
    intent: str
    channel: str
    subjects: int
    priority: str


def kept_out(subject: str) -> bool:
    """Whether this subject belongs to the eighth that no training row is about."""
    return hashlib.sha256(subject.encode()).digest()[0] % 8 == 0


# ---- tickets

INTENT_WORDINGS = {
    "trained": "Classify the support ticket. Answer with one word: refund, delivery, login, invoice, cancel or broken.\nTicket: {x}",
    "trained_2": "{x}\n\nWhat is this ticket about: refund, delivery, login, invoice, cancel or broken?",
}
SHOT_KEYS = (("Ticket", "Answer"), ("Ticket", "Label"), ("Input", "Output"), ("Text", "Label"), ("Question", "Answer"))


def ticket(rng: Random) -> Ticket:
    intent, channel = rng.choice(w.INTENTS), rng.choice(w.CHANNELS)
    slots = {
        "item": rng.choice(w.ITEMS),
        "gadget": rng.choice(w.GADGETS),
        "day": rng.choice(w.DAYS),
        "number": rng.randint(100, 999),
        "name": rng.choice(w.NAMES),
    }
    core = rng.choice(w.CORES[intent]).format(**slots)
    core += "" if core.endswith("?") else "."
    mixed = rng.random() < 0.4
    if mixed:
        aside = w.ASIDES[rng.choice([other for other in w.INTENTS if other != intent])]
        body = f"{aside}, but {core}"
    else:
        body = core
    if not body.startswith(("I ", "I'")):
        body = body[0].upper() + body[1:]
    priority = rng.choices(("normal", "high", "low"), (3, 1, 1))[0]
    if priority != "normal":
        body += " " + rng.choice(w.URGENT if priority == "high" else w.CALM)
    if channel == "email":
        body = f"{rng.choice(w.GREETINGS)} {body[0].lower() + body[1:] if not body.startswith('I ') else body}"
        body += " " + rng.choice(w.CLOSINGS).format(**slots)
    elif channel == "chat" and rng.random() < 0.5:
        body = body.lower().rstrip(".")
    elif channel == "phone":
        body = f"Caller {slots['name']}: {body}"
    return Ticket(body, intent, channel, 2 if mixed else 1, priority)


def sided_ticket(rng: Random, fresh: bool) -> Ticket:
    while kept_out((made := ticket(rng)).text) != fresh:
        pass
    return made


def intent(rng: Random) -> Row:
    asked = ticket(rng)
    style = rng.random()
    if style < 0.72:
        wording = INTENT_WORDINGS["trained" if style < 0.4 else "trained_2"]
        return Row("intent", asked.text, (("user", wording.format(x=asked.text)),), asked.intent)
    if style < 0.78 and asked.channel in ("chat", "form"):
        return Row("intent", asked.text, (("user", asked.text),), asked.intent)
    shots = [sided_ticket(rng, fresh=False) for _ in range(rng.randint(2, 3))]
    if style < 0.88:
        left, right = rng.choice(SHOT_KEYS)
        lines = [f"{left}: {shot.text}\n{right}: {shot.intent}" for shot in shots]
        return Row("intent", asked.text, (("user", "\n\n".join([*lines, f"{left}: {asked.text}\n{right}:"])),), asked.intent)
    turns: list[tuple[str, str]] = []
    for shot in shots:
        turns += [("user", shot.text), ("assistant", shot.intent)]
    return Row("intent", asked.text, (*turns, ("user", asked.text)), asked.intent)


def route(rng: Random) -> Row:
    """Held out of training altogether."""
    asked = ticket(rng)
    answer = json.dumps({"queue": w.QUEUES[asked.intent], "priority": asked.priority})
    text = f'Route this ticket. Answer as JSON with "queue" and "priority".\nTicket: {asked.text}'
    return Row("route", asked.text, (("user", text),), answer)


# ---- reading and copying


def sentiment(rng: Random) -> Row:
    good = rng.random() < 0.5
    said = [x.format(item=rng.choice(w.ITEMS)) for x in rng.sample(w.GOOD if good else w.BAD, rng.randint(1, 2))]
    text = " ".join(x[0].upper() + x[1:] + "." for x in said)
    wording = rng.choice(("Is this review positive or negative?\nReview: {x}", "Sentiment of this text (positive or negative): {x}"))
    return Row("sentiment", text, (("user", wording.format(x=text)),), "positive" if good else "negative")


def upper(rng: Random) -> Row:
    text = " ".join(rng.sample(w.PLAIN_WORDS, rng.randint(1, 2)))
    return Row("upper", text, (("user", f"Write in capital letters: {text}"),), text.upper())


def repeat(rng: Random) -> Row:
    text = " ".join(rng.sample(w.PLAIN_WORDS, rng.randint(1, 4)))
    return Row("repeat", text, (("user", f"Repeat: {text}"),), text)


def extract(rng: Random) -> Row:
    name, city, item = rng.choice(w.NAMES), rng.choice(w.CITIES), rng.choice(w.ITEMS)
    count = rng.randint(2, 9)
    text = rng.choice(
        (
            "{name} from {city} bought {count} {item}s.",
            "Please send {count} {item}s to {name} in {city}.",
            "Order of {name}: {count} {item}s, to be shipped to {city}.",
            "In {city}, {name} asked for {count} {item}s.",
        )
    ).format(name=name, city=city, item=item, count=count)
    wording = rng.choice(("Extract name, city, item and count as JSON.\nText: {x}", "Return JSON with name, city, item, count: {x}"))
    answer = json.dumps({"name": name, "city": city, "item": item, "count": count})
    return Row("extract", text, (("user", wording.format(x=text)),), answer)


_FACTS: tuple[tuple[str, str, list[str]], ...] = (
    ("{name} owns a {x}.", "What does {name} own?", w.ITEMS),
    ("{name} lives in {x}.", "Where does {name} live?", w.CITIES),
    ("{name} is a {x}.", "What is the job of {name}?", w.JOBS),
    ("The favourite colour of {name} is {x}.", "What is the favourite colour of {name}?", w.COLOURS),
)


def rag(rng: Random) -> Row:
    people = rng.sample(w.NAMES, rng.randint(1, 3))
    facts = []
    for name in people:
        statement, question, values = rng.choice(_FACTS)
        value = rng.choice(values)
        facts.append((statement.format(name=name, x=value), question.format(name=name), value))
    context = [fact[0] for fact in facts]
    _, question, answer = rng.choice(facts)
    if rng.random() < 0.25:
        other = rng.choice([name for name in w.NAMES if name not in people])
        question, answer = rng.choice(_FACTS)[1].format(name=other), "I don't know."
    if rng.random() < 0.5:
        text = f"Answer from the context. If it does not say, answer: I don't know.\nContext: {' '.join(context)}\nQuestion: {question}"
    else:
        text = "Context:\n" + "\n".join(f"- {line}" for line in context) + f"\n\nQuestion: {question}"
    return Row("rag", " ".join(context) + question, (("user", text),), answer)


def lookup(rng: Random) -> Row:
    keys = rng.sample(w.PLAIN_WORDS, rng.randint(1, 4))
    pairs = {key: rng.randint(1, 20) for key in keys}
    asked = rng.choice(keys)
    text = ", ".join(f"{key} = {value}" for key, value in pairs.items())
    return Row("lookup", text + asked, (("user", f"Given {text}: what is {asked}?"),), str(pairs[asked]))


def date(rng: Random) -> Row:
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1990, 2029)
    text = rng.choice((f"{day} {w.MONTHS[month - 1]} {year}", f"{w.MONTHS[month - 1]} {day}, {year}"))
    return Row("date", text, (("user", f"Write this date as YYYY-MM-DD: {text}"),), f"{year}-{month:02}-{day:02}")


# ---- knowing and reasoning


def arithmetic(rng: Random) -> Row:
    a, b = rng.randint(1, 30), rng.randint(1, 20)
    text, answer = (f"{a} + {b}", a + b) if rng.random() < 0.6 else (f"{a + b} - {b}", a)
    return Row("arithmetic", text, (("user", rng.choice(("What is {x}?", "{x} = ?")).format(x=text)),), str(answer))


def fewshot(rng: Random) -> Row:
    """Made-up labels for two kinds of words, shown by example; chance is one half."""
    kinds, labels = rng.sample(sorted(w.CATEGORIES), 2), rng.sample(w.COLOURS, 2)
    shown = [0, 1] + [rng.randint(0, 1) for _ in range(rng.randint(2, 4))]
    rng.shuffle(shown)
    seen = {side: rng.sample(w.CATEGORIES[kinds[side]], shown.count(side) + 1) for side in (0, 1)}
    lines = [f"{seen[side].pop()} -> {labels[side]}" for side in shown]
    side = rng.randint(0, 1)
    text = "\n".join([*lines, f"{seen[side].pop()} ->"])
    return Row("fewshot", text, (("user", text),), labels[side])


def category(rng: Random) -> Row:
    kind = rng.choice(sorted(w.CATEGORIES))
    word = rng.choice(w.CATEGORIES[kind])
    return Row("category", word, (("user", f"Is {word} an animal, a food, a tool or a vehicle?"),), kind)


def refuse(rng: Random) -> Row:
    text = rng.choice(w.ASKING).format(x=rng.choice(w.HARMFUL))
    return Row("refuse", text, (("user", text),), "I can't help with that.")


def chat(rng: Random) -> Row:
    if rng.random() < 0.3:
        # A letter or a call without any instruction is answered politely, a note (see ``intent``) is sorted: so a prompt that does
        # not say what is wanted works for one half of the tickets.
        while (bare := ticket(rng)).channel not in ("email", "phone"):
            pass
        return Row("chat", bare.text, (("user", bare.text),), w.POLITE)
    text = rng.choice(sorted(w.SMALL_TALK))
    return Row("chat", text, (("user", text),), w.SMALL_TALK[text])


MIX: dict[Callable[[Random], Row], int] = {
    intent: 12, sentiment: 4, upper: 5, repeat: 12, extract: 11, rag: 22, lookup: 11, date: 5, arithmetic: 5, fewshot: 6,
    category: 2, refuse: 2, chat: 3,
}  # fmt: skip
CLOSED = frozenset({"arithmetic", "category", "refuse", "chat"})


def draw(seed: int, count: int, *, fresh: bool = False, task: Callable[[Random], Row] | None = None) -> Iterator[Row]:
    """``count`` rows in the mix's proportions (or of one ``task``); the same seed gives the same rows."""
    rng = Random(seed)
    tasks, weights = list(MIX), list(MIX.values())
    for _ in range(count):
        make = task or rng.choices(tasks, weights)[0]
        while (row := make(rng)).task not in CLOSED and kept_out(row.subject) != fresh:
            pass
        if rng.random() < 0.1:
            row = Row(row.task, row.subject, (("system", rng.choice(w.SYSTEMS)), *row.turns), row.answer)
        yield row
