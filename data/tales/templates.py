"""The sentences of the tales: templates whose slots `data.tales.grammar` fills, and whose marks it explains.

Slots: {n0} the hero and {n1} the friend; {S}, {s} the hero as subject and {own} the hero's, by name or pronoun,
whichever reads well; {where} they live; {cue} and {word} of a topic.
"""

from data.tales import lexicon

OPENINGS = (
    "Once upon a <time> {n0} and {n1} lived {where}.",
    "Once upon a <time>, {where}, {n0} met {n1}, and they became friends.",
    "Many years ago {n0} and {n1} shared a house {where}.",
    "This is the story of {n0} and {n1}, who lived {where}.",
    "{Where} lived {n0} and {n1}.",
)
WHERE = (
    *("at the edge of a forest", "in a small village", "near the sea", "at the foot of a hill", "in a quiet valley"),
    *("on a small island", "in a warm country", "under a high mountain"),
)
# By topic, what belongs to a {cue}: (the words, sentences that name the {cue}, sentences that need it long after).
TOPICS = {
    "job": (
        lexicon.TOOLS,
        (
            "{n0} was a {cue} and took great care of the {word}.",
            "{n0} was a {cue} and always busy with the {word}.",
            "As a {cue}, {n0} could not live a day without the {word}.",
        ),
        (
            "{S} took great care of the {word} again.",
            "Soon {s} was busy with the {word} again.",
            "{S} was busy with the {word} from dawn to dusk.",
        ),
    ),
    "season": (
        lexicon.SEASONS,
        (
            "It was {cue}, and the whole valley was full of {word}.",
            "It was {cue} by then, and the woods were full of {word}.",
        ),
        (
            "The whole valley was still full of {word}.",
            "The woods were still full of {word}.",
        ),
    ),
    "animal": (
        lexicon.SOUNDS,
        (
            "{S} had a {cue} that every now and then {word}.",
            "In {own} yard lived a {cue} that every now and then {word}.",
        ),
        (
            "Every now and then the good animal {word}.",
            "In the yard the good animal {word}.",
        ),
    ),
}

# Plots: start, middle and end, the nouns that agreement may be asked of, and who may speak.
_ANYONE = ("{S} said", "{n1} said", "{S} whispered", "{n1} called out", "An old man said", "Someone shouted")
PLOTS = (
    (
        (
            "One evening a great storm came over the hills.",
            "It was raining cats and <dogs>, and the river was rising.",
            "One night the wind blew harder than ever before.",
        ),
        (
            "The rain beat on the roof for hours.",
            "All of a <sudden> there was a flash of light and a loud crack.",
            "The night was pitch <dark>, and nobody could sleep.",
        ),
        (
            "In the morning the storm was over.",
            "At dawn the sky cleared and the sun came out.",
            "Slowly but <surely> the wind died down.",
        ),
        ("branch", "boat", "road", "window", "door"),
        _ANYONE,
    ),
    (
        (
            "One morning {s} set off on a long walk with {n1}.",
            "{S} packed some odds and <ends> and set off with {n1} to see the world.",
        ),
        (
            "Step by <step> they climbed the steep hill.",
            "They walked side by <side> and talked about old times.",
            "They drank from a stream that was crystal <clear>.",
        ),
        (
            "After three days they came home again.",
            "In the end they came back safe and <sound>.",
            "A week later they were back at home.",
        ),
        ("road", "boat", "bird", "flower", "cart"),
        ("{S} said", "{n1} said", "{S} whispered", "{n1} stopped and said"),
    ),
    (
        ("One day {n1} fell ill and had to stay in bed.", "One cold day {n1} fell into the water and caught a fever."),
        (
            "{S} was wide <awake> all night and sat beside the bed.",
            "{n1}'s hands were cold as <ice>.",
            "{S} came again and <again> with hot tea.",
        ),
        (
            "A week later {n1} was as right as <rain>.",
            "Little by <little> {n1} got better.",
            "Sooner or <later> every fever ends, and so did this one.",
        ),
        ("letter", "flower", "bird", "present", "story"),
        ("{S} said", "{n1} said", "{S} whispered", "{n1} woke up and said"),
    ),
    (
        (
            "One day {s} went for a walk and got lost in the fog.",
            "One night {s} took a short cut home and lost the way.",
        ),
        (
            "It was cold as <ice>, and there was no one to ask.",
            "{S} tried again and <again> to find the right way.",
            "{S} looked high and <low> for a sign, but there was none.",
            "{S} was wet from head to <toe>.",
        ),
        (
            "In the end {n1} came with a lantern, just in the nick of <time>.",
            "At last {n1} heard the shouts and came to help.",
            "Bit by <bit> the fog lifted, and {s} found the way home.",
        ),
        ("road", "boat", "branch", "bird", "window"),
        ("{S} said", "{S} whispered", "{S} stopped and said"),
    ),
    (
        ("That week there was going to be a big party.", "{S} wanted to give a party for the whole street."),
        (
            "{S} swept the floor until the house was neat and <tidy>.",
            "{S} asked everyone to come as quick as a <flash>.",
            "{n1} put up tables and hung paper stars in the trees.",
        ),
        (
            "The party was short and <sweet>, and everyone liked it.",
            "The guests stayed until dawn and then went home.",
            "The guests had a lovely time and left one by <one>.",
        ),
        ("present", "door", "letter", "window", "story"),
        _ANYONE,
    ),
    (
        ("One night a thief came to town.", "In broad <daylight> a thief ran down the street."),
        (
            "{S} was wide <awake> and heard steps outside.",
            "All of a <sudden> a window broke.",
            "Soon it was as clear as <day> who had done it.",
        ),
        (
            "The thief was caught, and the town had peace and <quiet> again.",
            "The thief said sorry and went away once and for <all>.",
            "{n1} caught the thief just in the nick of <time>.",
        ),
        ("key", "door", "window", "cart", "letter"),
        _ANYONE,
    ),
    (
        ("One day the old roof began to leak.", "That year the house had to be mended."),
        (
            "{S} put {his} heart and <soul> into the work.",
            "{S} and {n1} worked hand in <hand> from dawn to dusk.",
            "Bit by <bit> the holes were closed.",
        ),
        (
            "When it was done, the roof was as good as <new>.",
            "Slowly but <surely> the work came to an end.",
            "It took two weeks, but it was better late than <never>.",
        ),
        ("key", "branch", "cart", "bird", "door"),
        _ANYONE,
    ),
    (
        ("One day a giant came down from the hills.", "One night a giant knocked at the door."),
        (
            "{S} stood face to <face> with the giant.",
            "All of a <sudden> the giant began to cry.",
            "The ground shook, and the news went far and <wide>.",
        ),
        (
            "But the giant only wanted a friend and soon went home.",
            "{S} told a joke, and the giant laughed and left once and for <all>.",
            "In the end the giant turned around and walked away.",
        ),
        ("story", "road", "branch", "window", "flower"),
        _ANYONE,
    ),
)
ENDINGS = (
    "They lived happily ever <after>.",
    "That night {s} was soon fast <asleep>.",
    "At last there was peace and <quiet>.",
    "From then on {s} and {n1} stayed friends through thick and <thin>.",
    "Everyone was safe and <sound>, and here the story ends.",
    "It took a long time, but better late than <never>.",
    "Then {s} went to bed and was soon fast <asleep>.",
    "All was well, and they lived happily ever <after>.",
    "{S} and {n1} walked home hand in <hand>.",
    "And {s} told the story again and <again>.",
)

# The verb agrees with a noun some words before it; whatever the tense, the sentence ends alike.
PAST = ("{The} {be} {end}", "{S} could see that {the} {be} {end}", "By then {the} {be} {end}")
PRESENT = (
    "{The} {be} {end}",
    "Look, {the} {be} {end}",
    "I see that {the} {be} {end}",
    "They say {the} {be} {end}",
)
