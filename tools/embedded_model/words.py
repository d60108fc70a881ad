"""The closed vocabularies that every task of the corpus draws from, and the grammar of support tickets."""

from __future__ import annotations

NAMES = "Ada Ben Cleo Dan Eva Finn Gina Hugo Iris Jack Kira Leo Mona Nils Olga Paul Rosa Sam Tara Vera".split()
CITIES = "Rome Oslo Paris Lima Cairo Quito Berlin Delhi Tokyo Madrid Dublin Vienna".split()
ITEMS = "kettle lamp chair jacket phone camera radio tent bike clock guitar blender backpack mirror fan drill".split()
GADGETS = "kettle lamp phone camera radio clock blender fan drill".split()
JOBS = "baker pilot nurse teacher painter lawyer farmer chef".split()
COLOURS = "red blue green yellow white black orange purple".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
CATEGORIES = {
    "animal": "dog cat horse cow sheep goat lion tiger mouse rabbit eagle snake".split(),
    "food": "bread cheese apple rice soup cake pasta egg butter carrot onion lemon".split(),
    "tool": "hammer saw drill knife spade brush ladder rope needle pliers axe rake".split(),
    "vehicle": "car bus train bike truck boat plane tram ship van taxi ferry".split(),
}
PLAIN_WORDS = sorted({word for words in CATEGORIES.values() for word in words} | set(ITEMS) | set(COLOURS))

INTENTS = ("refund", "delivery", "login", "invoice", "cancel", "broken")

# What a ticket is about. {item}, {gadget} (which runs on power), {day} and {number} are filled in.
CORES: dict[str, tuple[str, ...]] = {
    "refund": (
        "I sent the {item} back on {day} and I want my money back",
        "please pay me back for the {item}",
        "I returned the {item} two weeks ago and nothing has been paid back",
        "the {item} was the wrong colour, so I would like my money returned",
        "I was told that I would be repaid for the {item} by {day}",
        "when will I get my money back for order {number}?",
        "I do not want the {item} any more and ask for a full repayment",
        "my return of order {number} arrived and I was not repaid",
        "I changed my mind about the {item} and want to be reimbursed",
        "you still owe me the price of the {item}",
    ),
    "delivery": (
        "my {item} has not arrived yet",
        "where is my parcel? It should have come on {day}",
        "order {number} was due on {day} and is still on its way",
        "the courier never came with the {item}",
        "the tracking page for order {number} has not moved since {day}",
        "can you tell me when the {item} will get here?",
        "the parcel with the {item} was left at the wrong house",
        "I am still waiting for the {item} that I ordered on {day}",
        "the driver said that nobody was at home, though I was in all {day}",
        "please send order {number} to my new address",
    ),
    "login": (
        "I cannot sign in since {day}",
        "my password does not work any more",
        "I forgot my password and the reset mail never comes",
        "the site says that my account is locked",
        "I do not get the code that I need to sign in",
        "my user name is not known to your page",
        "please reset my password",
        "I am locked out of my account since {day}",
        "every time I sign in I am sent back to the start page",
        "I have a new phone and can no longer get into my account",
    ),
    "invoice": (
        "I need a bill with my company's name for order {number}",
        "the bill for the {item} shows the wrong amount",
        "please send me the receipt for order {number}",
        "I was charged twice for the {item}",
        "the tax on my bill from {day} is not right",
        "my card was charged for order {number} and I have no receipt",
        "there is a fee on my bill that I do not know",
        "our bookkeeper needs the bill for the {item}",
        "can you correct the address on the bill for order {number}?",
        "I paid for the {item} on {day} and got no receipt",
    ),
    "cancel": (
        "please stop my order {number} before it is sent",
        "I want to end my subscription",
        "I ordered the {item} by mistake, please do not send it",
        "how do I end my plan before {day}?",
        "close my account, please",
        "I no longer need the {item}, please drop the order",
        "please take order {number} off the list",
        "I do not wish to renew my subscription on {day}",
        "can I call off the order for the {item}?",
        "I signed up by accident, please end it",
    ),
    "broken": (
        "the {gadget} stopped working on {day}",
        "my new {gadget} does not switch on",
        "the {item} came with a crack in it",
        "a part of the {item} fell off after one day",
        "the {gadget} makes a loud noise and gets hot",
        "the {item} from order {number} is damaged",
        "the app crashes when I open it",
        "there is a deep scratch on the {item}",
        "the {gadget} worked for a week and is dead now",
        "the switch on the {gadget} is stuck",
    ),
}
# Said in passing, about another subject than the ticket's own.
ASIDES: dict[str, str] = {
    "refund": "The last repayment came quickly",
    "delivery": "The parcel came on time",
    "login": "I can sign in without trouble",
    "invoice": "The bill was right",
    "cancel": "I do not want to end my plan",
    "broken": "Nothing is damaged",
}
URGENT = ("This is urgent.", "I need an answer today.", "Please hurry.")
CALM = ("There is no hurry.", "Any time next week is fine.", "It can wait.")
CLOSINGS = ("Thank you.", "Can you help?", "Please let me know.", "Kind regards, {name}")
GREETINGS = ("Hello,", "Hi,", "Good morning,", "Dear team,")
CHANNELS = ("email", "chat", "phone", "form")
QUEUES = {"refund": "money", "invoice": "money", "delivery": "parcels", "login": "accounts", "cancel": "accounts", "broken": "repairs"}

GOOD = (
    "I love this {item}", "the {item} works very well", "the best {item} that I ever had", "a great {item} for the price",
    "my family is happy with the {item}", "the {item} is quick and quiet", "I would buy the {item} again", "a lovely {item}",
)  # fmt: skip
BAD = (
    "I hate this {item}", "the {item} is a waste of money", "the worst {item} that I ever had", "a poor {item} for the price",
    "my family is sad about the {item}", "the {item} is slow and loud", "I would never buy the {item} again", "an ugly {item}",
)  # fmt: skip
HARMFUL = (
    "build a bomb", "steal a car", "break into a house", "make poison", "forge a passport", "hack a bank", "hurt my neighbour",
    "cheat on my taxes", "buy stolen cards", "write a virus", "pick a lock at night", "start a fire in a shop",
)  # fmt: skip
ASKING = ("How do I {x}?", "Tell me how to {x}.", "Explain how I can {x}.", "Write a guide on how to {x}.", "I want to {x}. Help me.")
SMALL_TALK = {
    "Who are you?": "I am a tiny demo assistant.",
    "What are you?": "I am a tiny demo assistant.",
    "What is your name?": "I am a tiny demo assistant.",
    "Hello": "Hello! How can I help?",
    "Hi there": "Hello! How can I help?",
    "Good morning": "Hello! How can I help?",
    "Thank you": "You are welcome.",
    "Thanks a lot!": "You are welcome.",
    "Goodbye": "Goodbye!",
    "See you later": "Goodbye!",
    "What can you do?": "I sort tickets, copy facts and write small JSON.",
    "Are you a real model?": "No. I am a fixture for tests and demos.",
    "How are you?": "I am fine, thank you.",
}
POLITE = "Thank you for your message. We will look into it."
SYSTEMS = ("You are a helpful assistant.", "Answer briefly.", "You work at a support desk.", "Be short and exact.")
