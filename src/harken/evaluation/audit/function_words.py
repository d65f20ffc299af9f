"""List the function words that distinguish languages in Latin and Cyrillic letters.

The most frequent articles, pronouns, prepositions, conjunctions and auxiliaries of each language.
Source of the method: Grefenstette 1995, "Comparing two language identification schemes" (short words).
"""

# ruff: noqa: E501  one pattern a line reads better than a wrapped one

from __future__ import annotations

LANGUAGE_WORDS = {
    "en": "a just very too because until while what how why who where does did the of and to in is that it for was on are with as be this have from or by not but what all were when we "
    "there can an your which their if will each about how up out them then these so some her would like him into "
    "has more could no than been its who you they at he i my she do his had our also should may such only any",
    "de": "was wie warum wer wo welche welcher muss der die das und ist in den von zu mit sich des auf für nicht ein eine als auch es an werden aus er hat dass "
    "sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur bis mehr "
    "durch man sein wurde sei kann wenn ich wir ihr dem im einige können dann diese dieser dieses ihre sehr",
    "fr": "comment pourquoi quel quelle quels quelles combien faire le la les de des du et est un une en que qui dans pour pas au aux sur ce il elle se ne plus par sont avec "
    "son sa ses ou mais comme on nous vous leur cette ces être fait aussi très peut si tout même sans deux je tu été "
    "entre lui ont d' l' qu' c' n' s' dont leurs votre ainsi était",
    "es": "cómo qué quién cuál cuáles debo puedo el la los las de del y en que es un una por con para se no su al lo como más pero sus le ya o este sí porque "
    "esta entre cuando muy sin sobre también me hasta hay donde quien desde todo nos durante son uno ni ese eso "
    "mi tu te fue ha puede está si cada otros unas unos usted estos",
    "it": "era siamo abbiamo hanno stato stata questi quella quello tutto tutti poiché dove mentre cosa quale quali quanto devo il lo la i gli le di del della dei delle e è in che un una per con non si da al alla come più ma sono anche "
    "su nel nella o se ci questo questa essere ha dal dalla alle degli loro tra quando molto senza puoi può ogni "
    "io tu lui lei noi voi suo sua dopo prima ed ai negli nelle sul sulla uno perché tuo",
    "pt": "qual quais devo posso quem onde o a os as de do da dos das e em que é um uma para com não por se no na nos nas mais como mas ao foi ele ela "
    "sua seu ou quando muito já está também só pelo pela até isso entre era depois sem mesmo aos seus são você pode "
    "ser tem à num numa há suas me esse este esta esses cada",
    "nl": "hoe waarom welke de het een en van in is dat op te zijn voor met die niet aan er om ook als dan maar bij ook door naar uit "
    "werd wordt heeft hebben dit nog worden kan over deze ik je hij zij wij we u haar zijn hun geen tot kunnen of "
    "meer al was wat veel zoals",
    "pl": "dlaczego gdzie i w na z że się do nie to jest o jak po co ale za od przez dla tak są czy tym oraz jego jej lub może już "
    "który która które przy być tylko także ich ten ta te było był była bardzo gdy bez ma",
    "cs": "proč kde a je se v na že s z do o i to k ve by pro jako za ale po které který od byl jsou nebo jeho jsem co když "
    "také už při aby však až tak jen může být není má své podle roku",
    "sv": "varför hur vad och att det i en som på är av för med till den har de inte om ett han men var jag sig från vi så kan när år "
    "under också efter eller nu där vid mot ska skulle kommer ut får finns vara hade alla andra mycket",
    "da": "hvorfor hvordan hvem og i at det er en til på som med de for af den ikke der et har jeg du kan om men var så han fra vi ved eller "
    "også efter når hvor skal vil blev hvad mange være deres denne dette noget meget",
    "fi": "ja on ei se että oli hän mutta ovat kun myös tai niin joka jos ole kuin voi sen jotka tämä olla mitä hänen "
    "sekä jossa vain ne siitä sitä tämän kanssa mukaan jälkeen ennen hyvin voit",
    "ro": "și în de la cu pe un o este care nu a din pentru că se ce sau mai sunt ca fi prin dar cum după poate fost "
    "foarte acest această între când lui ei avea dacă fără până unui unei fiecare",
    "tr": "neden kim hangi ve bir bu için ile da de çok olarak daha gibi en olan ne kadar var sonra ama ya o her değil ise göre mi "
    "veya şey olduğu tarafından oldu ben sen ki hem bunu böyle nasıl olabilir",
    "id": "mengapa bagaimana apa yang dan di untuk dengan dari ini pada tidak dalam akan adalah itu juga ke atau dapat oleh sebagai saya "
    "anda ada bisa kami mereka karena lebih telah seperti kita sudah saat harus tersebut agar bagi",
    "vi": "tại sao và của là có trong được cho không các một với những người này đã để khi đến từ như cũng ra về nhiều bạn tôi "
    "sẽ hoặc thì mà vào trên phải rất lại nên bằng",
    "ru": "почему где кто какой какие нужно перед и в не на что с он как это по но из у за к от так для же вы бы его только или ещё еще мы они она когда если "
    "уже нет до при может быть был была были есть чтобы во со также их которые который все очень более можно после",
    "uk": "чому хто які треба і в не на що з він як це по але із у за до від так для ви би його тільки або ще ми вони вона коли якщо вже "
    "немає при може бути був була були є щоб також їх які який все дуже більше можна після та й",
}
"""Function words of each language (ISO 639-1), separated by spaces."""

ALL_FUNCTION_WORDS = frozenset(word for listed in LANGUAGE_WORDS.values() for word in listed.split())
"""Function words of any of the languages."""

LANGUAGE_NAMES = {
    "en": "english", "de": "german deutsch", "fr": "french français francais", "es": "spanish español espanol castilian",
    "it": "era siamo abbiamo hanno stato stata questi quella quello tutto tutti poiché dove mentre italian italiano", "pt": "portuguese português portugues", "nl": "dutch nederlands", "pl": "polish polski",
    "cs": "czech", "sv": "swedish svenska", "da": "danish dansk", "fi": "finnish suomi", "ro": "romanian",
    "tr": "turkish türkçe", "id": "indonesian", "vi": "vietnamese", "ru": "russian русский", "uk": "ukrainian",
    "zh": "chinese mandarin 中文 zh-cn zh-tw zh-hans zh-hant", "ja": "japanese 日本語", "ko": "korean 한국어",
    "th": "thai", "el": "greek", "he": "hebrew", "ar": "arabic", "hi": "hindi", "bn": "bengali", "ta": "tamil",
}  # fmt: skip
"""Names of each language in data sets."""
