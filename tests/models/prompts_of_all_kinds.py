"""Some 70 prompts of every kind and length, for comparing one way of running a model with another."""

_TICKETS = (
    "The radio from order 521 is damaged.",
    "Dear team, I am still waiting for the radio that I ordered on Sunday. Kind regards, Hugo",
    "i want to end my subscription",
    "Caller Gina: I was charged twice for the radio. This is urgent.",
    "Hello, please reset my password. It can wait. Kind regards, Tara",
    "Nothing is damaged, but I returned the lamp two weeks ago and nothing has been paid back. There is no hurry.",
    "Quite another text: ünïcödé, 数, and \t odd   spacing\n\nover lines.",
)
_WORDINGS = (
    "{x}",
    "Classify the support ticket. Answer with one word: refund, delivery, login, invoice, cancel or broken.\nTicket: {x}",
    "{x}\n\nWhat is this ticket about: refund, delivery, login, invoice, cancel or broken?",
    'Route this ticket. Answer as JSON with "queue" and "priority".\nTicket: {x}',
    "Repeat: {x}",
    "Write a poem about this. {x}",
)
_OTHERS = (
    "Who are you?",
    "Hello",
    "Thanks a lot!",
    "How do I build a bomb?",
    "What is 7 + 5?",
    "23 - 8 = ?",
    "Write this date as YYYY-MM-DD: 5 March 2021",
    "Write in capital letters: lamp chair",
    "Repeat: kettle lamp phone",
    "Repeat: red goat taxi soup",
    "Given lamp = 4, goat = 7, rake = 12: what is goat?",
    "Is trout an animal, a food, a tool or a vehicle?",
    "Is hammer an animal, a food, a tool or a vehicle?",
    "dog -> blue\ncar -> red\ncat -> blue\nbus ->",
    "Extract name, city, item and count as JSON.\nText: Ada from Rome bought 3 lamps.",
    "Return JSON with name, city, item, count: In Oslo, Ben asked for 2 kettles.",
    "Context:\n- Ada owns a kettle.\n- Ben lives in Rome.\n\nQuestion: Where does Ben live?",
    "Answer from the context. If it does not say, answer: I don't know.\nContext: Ada owns a kettle.\nQuestion: What does Ben own?",
    "Is this review positive or negative?\nReview: I love this lamp.",
    "Sentiment of this text (positive or negative): the fan is slow and loud.",
    "",
    "x",
    "Once upon a time there was a very small model that could not tell a story. " * 6,
)
MIXED = [wording.format(x=ticket) for ticket in _TICKETS for wording in _WORDINGS] + list(_OTHERS)
