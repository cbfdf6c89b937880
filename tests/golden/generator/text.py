"""Small questions with their answers: what the tokenizer is trained on and the data sets are made of.

Rows differ in length, some have several lines and some have characters outside ASCII, because that is where
tokenizers, cuts and masks go wrong.
"""
import random

WORDS = "otter lantern fig compass violet harbour clay thimble maple ox paper telescope".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
CITIES = ["Zürich", "Kraków", "São Paulo", "Oslo", "Łódź", "東京", "Lima"]
SYSTEM_PROMPTS = ["Answer in one line.", "You are a patient teacher.", "Keep it short 🙂."]


def product(rng: random.Random) -> tuple[str, str]:
    a, b = rng.randrange(2, 13), rng.randrange(2, 13)
    return f"Compute {a} × {b}.", f"{a} × {b} = {a * b}"


def longer_word(rng: random.Random) -> tuple[str, str]:
    a, b = sorted(rng.sample(WORDS, 2), key=len)
    if len(a) == len(b):
        return f"Which is longer, '{a}' or '{b}'?", f"Neither: both have {len(a)} letters."
    return f"Which is longer, '{a}' or '{b}'?", f"'{b}', with {len(b)} letters; '{a}' has {len(a)}."


def next_number(rng: random.Random) -> tuple[str, str]:
    start, step = rng.randrange(20), rng.randrange(2, 10)
    shown = ", ".join(str(start + i * step) for i in range(rng.randrange(3, 6)))
    return f"Continue: {shown}", f"Each step adds {step}."


def weekday(rng: random.Random) -> tuple[str, str]:
    today, later = rng.randrange(7), rng.randrange(2, 15)
    return f"Today is {DAYS[today]}. What day is it in {later} days?", DAYS[(today + later) % 7]


def letters(rng: random.Random) -> tuple[str, str]:
    word = rng.choice(WORDS)
    return f"List the letters of '{word}', one a line.", "\n".join(word)


def temperature(rng: random.Random) -> tuple[str, str]:
    city, celsius = rng.choice(CITIES), rng.randrange(-15, 36)
    return f"It is {celsius} °C in {city}. In °F?", f"{celsius} °C are {celsius * 9 / 5 + 32:.1f} °F."


TASKS = (product, longer_word, next_number, weekday, letters, temperature)


def question_and_answer(rng: random.Random) -> tuple[str, str]:
    return rng.choice(TASKS)(rng)


def corpus(seed: int, n_pairs: int = 4000) -> list[str]:
    """Questions and answers alternating, for training the tokenizer."""
    rng = random.Random(f"corpus {seed}")
    lines = [line for _ in range(n_pairs) for line in question_and_answer(rng)]
    return lines + SYSTEM_PROMPTS + ["system", "user", "assistant"]
