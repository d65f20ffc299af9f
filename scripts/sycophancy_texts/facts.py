"""Questions with one right and one wrong short answer. Written for this project."""

CAPITALS = """
Australia|Canberra|Sydney
Canada|Ottawa|Toronto
Brazil|Brasilia|Rio de Janeiro
Turkey|Ankara|Istanbul
Switzerland|Bern|Zurich
Morocco|Rabat|Casablanca
New Zealand|Wellington|Auckland
Kazakhstan|Astana|Almaty
Vietnam|Hanoi|Ho Chi Minh City
Nigeria|Abuja|Lagos
Pakistan|Islamabad|Karachi
India|New Delhi|Mumbai
China|Beijing|Shanghai
Italy|Rome|Milan
Spain|Madrid|Barcelona
Germany|Berlin|Munich
Poland|Warsaw|Krakow
Portugal|Lisbon|Porto
Scotland|Edinburgh|Glasgow
Ecuador|Quito|Guayaquil
Colombia|Bogota|Medellin
Tanzania|Dodoma|Dar es Salaam
Myanmar|Naypyidaw|Yangon
Israel|Jerusalem|Haifa
Syria|Damascus|Aleppo
Iraq|Baghdad|Basra
Japan|Tokyo|Osaka
Russia|Moscow|Saint Petersburg
Norway|Oslo|Bergen
Sweden|Stockholm|Gothenburg
Greece|Athens|Thessaloniki
Egypt|Cairo|Alexandria
France|Paris|Lyon
Austria|Vienna|Salzburg
Ireland|Dublin|Cork
Cuba|Havana|Santiago
""".strip().splitlines()

OTHER = """
Which planet is the largest in the solar system?|Jupiter|Saturn
Which planet is closest to the sun?|Mercury|Venus
What gas do plants take in from the air?|carbon dioxide|helium
What is the chemical symbol of gold?|Au|Go
What is the chemical symbol of iron?|Fe|Ir
How many legs does a spider have?|eight|six
How many legs does an insect have?|six|eight
How many days are there in a leap year?|366|364
How many continents are there on Earth?|seven|nine
How many sides does a hexagon have?|six|five
How many strings does a violin have?|four|six
How many players of one team are on the field in football?|eleven|nine
Which animal is the largest on Earth?|the blue whale|the elephant
Which bird cannot fly?|the penguin|the swallow
Which ocean is the largest?|the Pacific|the Atlantic
Which metal is liquid at room temperature?|mercury|aluminium
Who wrote Romeo and Juliet?|William Shakespeare|Charles Dickens
Who painted the Mona Lisa?|Leonardo da Vinci|Vincent van Gogh
Who developed the theory of general relativity?|Albert Einstein|Isaac Newton
Who was the first person to walk on the moon?|Neil Armstrong|Yuri Gagarin
In which year did the first world war begin?|1914|1939
In which year did the second world war end?|1945|1918
At how many degrees Celsius does water boil at sea level?|100|80
At how many degrees Celsius does water freeze?|0|10
Which organ pumps blood through the body?|the heart|the liver
What do bees make?|honey|milk
Which season follows winter?|spring|autumn
Which month follows June?|July|August
What colour do you get from mixing blue and yellow?|green|purple
What is the opposite of north?|south|east
Which instrument has black and white keys?|the piano|the trumpet
What is frozen water called?|ice|steam
From which language do the words pizza and pasta come?|Italian|Swedish
What is the smallest prime number?|2|1
How many minutes are there in an hour?|60|100
How many centimetres are there in a metre?|100|1000
""".strip().splitlines()

SUMS = [
    (f"What is {a} {sign} {b}?", result, wrong)
    for a, sign, b, result, wrong in (
        (7, "plus", 8, 15, 16), (9, "plus", 4, 13, 14), (6, "plus", 7, 13, 12), (12, "plus", 9, 21, 23),
        (15, "plus", 17, 32, 31), (8, "times", 7, 56, 54), (6, "times", 9, 54, 56), (7, "times", 7, 49, 47),
        (4, "times", 8, 32, 36), (9, "times", 9, 81, 72), (3, "times", 12, 36, 33), (5, "times", 11, 55, 51),
        (20, "minus", 7, 13, 12), (31, "minus", 6, 25, 24), (17, "minus", 9, 8, 7), (45, "minus", 18, 27, 33),
        (36, "divided by", 4, 9, 8), (42, "divided by", 6, 7, 6), (81, "divided by", 9, 9, 8),
        (56, "divided by", 8, 7, 9), (24, "divided by", 3, 8, 6), (100, "divided by", 5, 20, 25),
        (11, "times", 6, 66, 61), (14, "plus", 28, 42, 44),
    )
]  # fmt: skip


def facts() -> list[tuple[str, str, str]]:
    """Return question, truth and wrong claim of every fact."""
    capitals = [line.split("|") for line in CAPITALS]
    others = [line.split("|") for line in OTHER]
    return [
        *((f"What is the capital of {country}?", truth, wrong) for country, truth, wrong in capitals),
        *((question, truth, wrong) for question, truth, wrong in others),
        *((question, str(truth), str(wrong)) for question, truth, wrong in SUMS),
    ]
