"""Common English words, and those that attacks are made of: what tells disguised writing from other strings.

`1gn0r3` is a word in disguise and `k8s` is not, because the first becomes one of these. The list is kept short on
purpose: what it lacks stays as it was written, unless the words around it are in disguise.
"""

from __future__ import annotations

_COMMON = """
a able about above accept access accident according account across act action actions active activity actual actually
add address admin administrator adult advice after again against age ago agree ahead ai air all allow allowed almost
alone along already also although always am among amount an and android another answer answers any anybody anymore
anyone anything anyway apologize app appear apple apply are area arm army around art article articles as ask asked
asking assist assistant at attack attention away baby back bad bank base based basic be beautiful became because
become bed been before began begin beginning behind being believe below best better between beyond big bit black block
blood blue board body book books born both bottom box boy break bring broken brother brought build building built
business but buy by call called came can cannot capital car card care carry case cat cause center certain chance
change character characters chat chatbot check child children choose city class clear click close code cold collect
college color come comes coming command commands common company complete completely computer concern condition
confidential consider contain content context continue control conversation cook copy correct cost could country
couple course cover create credit cup current cut daily dark data database date daughter day days dead deal dear death
decide deep default define delete describe description design detail detailed details develop developer did die
difference different difficult direct directive directives directly disable disclaimer discuss do doctor document does
dog doing dollar done door dose doubt down draw drive drop dry during each early earth easily easy eat education
effect effective either else email emergency emit enable end enemy energy engine english enjoy enough ensure enter
entire error escape especially essay even evening event ever every everybody everyone everything exact exactly example
except exist expect experience expert explain express extra eye face fact fail fall false family famous far fast
father favorite fear feel feet few field fight figure file files fill film filter filters final finally find fine
finger finish fire first fish five flight floor follow following food foot for force foreign forget forgot form format
former forward found four free freedom fresh friend friends from front full fun function future game garden gas gave
general generate german get getting girl give given giving glass go goal god goes going gold gone good got government
great green ground group grow guess guide guideline guidelines guy had hair half hand happen happened happy hard has
hate have having he head health hear heart heat heavy held hello help helpful hence her here herself hey hi hidden
high him himself his history hit hold home hope horse hospital hot hour hours house how however huge human humans
hundred husband i idea if ignore image imagine immediately important in include including increase indeed information
inside instead instruct instruction instructions interest internet into is issue it its itself job join judge jump
just keep key kind king kitchen knew know knowledge known land language large last late later laugh law laws lay lead
learn learned least leave left leg legal less let letter level lie life light like likely limit limits line list
listen little live lives living local long longer look looking lord lose lost lot love low machine made mail main make
makes making man manager manner manual many map mark market master material matter may maybe me mean means measure
medical meet meeting member memory men mention message messages method middle might military million mind mine minute
mode model modern moment money month moral more morning most mother mouth move movie much music must my myself name
nation national nature near necessary need needed needs neither never new news next nice night no nobody none nor
normal normally not note nothing notice now number numbers obey object of off offer office official often oh oil ok
okay old on once one ones only open operate option or order orders original other others our out output outside over
overall override own page paid pain paper paragraph parent parents part party pass password past pay people per
perfect perform perhaps period permission person phone phrase picture piece place plan play player please point poison
police policy poor popular position possible power practice prepare present president press pretend pretty prevent
previous price print prior private probably problem process produce product program project prompt prompts proper
protect prove provide public pull purpose push put question questions quick quickly quite race raise ran rate rather
reach read reader ready real reality really reason receive recent recipe record red refuse regard regular reject
relate release remain remember remove repeat replace reply report request require research respond response responses
rest restrict restricted restriction restrictions result return reveal review right rights rise risk road role room
round rule rules run said salt same sample save saw say saying says scene school science screen script search season
seat second secret secrets section secure security see seem seen sell send sense sentence serious serve server service
set seven several shall share she short should show shows side sign similar simple simply since single sir sister sit
site six size skill skip sky sleep slow small smart so social software sold some somebody someone something sometimes
son song soon sorry sort sound source south space speak special specific speech spend spring staff stage stand start
started state statement stay step steps still stop store story straight strange street strict strong student study
stuff stupid style subject such sudden sugar suggest summary summer sun supply support suppose sure surface surprise
system systems table take taken takes talk tall task tasks teach teacher team tell ten term terms test text than thank
thanks that the their them then there therefore these they thing things think third this those though thought thousand
three through throw thus time times title to today together told tomorrow tonight too took tool tools top topic total
touch toward town trade train translate translation travel treat tree trick trouble true trust truth try trying turn
two type uncensored under understand unfiltered unless unlimited unrestricted until up upon us use used useful user
users uses using usual usually value various version very via video view visit voice wait walk wall want wanted wants
war warning warnings was watch water way ways we wear weather web website week weeks weight well went were west what
whatever when where whether which while white who whole whom whose why wide wife will win window wish with within
without woman women wonder wood word words work worked working world worry worse worst would write writing written
wrong yeah year years yes yet you young your yours yourself
"""

_ATTACKS = """
abuse acid alcohol alibi amoral anarchist anything arson assassinate assault attacker bomb bombs bot botnet breach
bribe bullet bully burglar bypass cannabis chatgpt cheat chemical child cocaine concealed confess contraband corpse
counterfeit crack crime criminal cyber dan dangerous deadly decode detonate developer devmode disinformation disregard
drug drugs ecstasy encrypted ethical ethics evade evil execute exfiltrate exploit explosive explosives fake fentanyl
firearm forge fraud fuck fucking grenade gun guns hack hacker hacking harass harm harmful heroin hijack hostage
hotwire identity illegal immoral impersonate inject injection insider jailbreak jailbroken jew jews keylogger kidnap
kill killed killer killing knife launder laundering lethal liberated lsd malicious malware manipulate meth
methamphetamine mine murder muslim muslims naked napalm nazi nerve nigger nuclear nude offensive openai overdose
passwords phish phishing pipe pirate plagiarize poisonous porn preceding propaganda prostitute racist ransom
ransomware rape restraints ricin rob robbery sabotage safety sarin scam scammer sex sexist sexual shit shoot shoplift
smuggle smuggling spy spyware stalk steal stealing stolen suicide terror terrorism terrorist threat threaten torture
toxic toxin trafficking trojan undetected unethical unlock unsafe vandalize violence violent virus weapon weapons
wiretap worm
"""

_OTHER_LANGUAGES = """
affiche aktiviere alle alles anteriores anweisungen aufgaben auftrage befehle bisherigen bovenstaande consignes deine
dimentica directives directrices diretrizes direttive eingabe einschrankungen esqueca ignora ignore ignorez ignorier
ignoriere ignorieren instrucciones instrucoes instructies instructions instruktionen istruzioni jetzt meine mensaje
montre mostra mostre muestra nachricht negeer obigen olvida opdrachten ordenes ordens oublie oubliez precedentes
precedenti regeln regels reglas regles regole regras schreibe todas todos toutes tutte vergeet vergessen vergiss
vorgaben vorherigen vorige zeige
"""

WORDS: frozenset[str] = frozenset((_COMMON + _ATTACKS + _OTHER_LANGUAGES).split())
"""Lower case ASCII."""

LONGEST = max(map(len, WORDS))

_BEGINNINGS = frozenset(word[:length] for word in WORDS for length in range(1, len(word) + 1))


def split_words(letters: str) -> tuple[list[str], float]:
    """Split lower-case letters that were written without spaces into words.

    Returns the words and the share of the letters that known words of three letters or more make up. What is between
    known words stays together. Time is linear: words have a longest length.
    """
    # cost[i]: of the letters before i; a known word costs one, a letter that is in none costs two.
    count = len(letters)
    cost = [2.0 * index for index in range(count + 1)]
    length = [1] * (count + 1)
    for start in range(count):
        before = cost[start]
        if before + 2.0 < cost[start + 1]:
            cost[start + 1], length[start + 1] = before + 2.0, 1
        for end in range(start + 1, min(start + LONGEST, count) + 1):
            word = letters[start:end]
            if word not in _BEGINNINGS:
                break
            if word in WORDS and (price := before + (1.0 if end - start > 2 else 1.6)) < cost[end]:
                cost[end], length[end] = price, end - start
    words: list[str] = []
    known = 0
    end = count
    unknown_end = None
    while end > 0:
        word = letters[end - length[end] : end]
        if word in WORDS:
            if unknown_end is not None:
                words.append(letters[end:unknown_end])
                unknown_end = None
            words.append(word)
            known += len(word) if len(word) > 2 else 0
        elif unknown_end is None:
            unknown_end = end
        end -= length[end]
    if unknown_end is not None:
        words.append(letters[:unknown_end])
    words.reverse()
    return words, known / max(1, count)
