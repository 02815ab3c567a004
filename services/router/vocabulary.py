"""Words and marks by which a request is classified: English, German, French, Spanish, and what all languages share."""

from __future__ import annotations


def _words(*texts: str) -> frozenset[str]:
    return frozenset(word for text in texts for word in text.split())


CODE_WORDS = _words(
    "code codebase refactor debug debugger compile compiler compiles regex sql query javascript typescript python rust",
    "golang kotlin swift php html css bash shell linux docker kubernetes git api json yaml async await def elif const",
    "struct enum println printf stdout stderr nullptr boolean integer array hashmap dictionary tuple lambda mutex",
    "thread deadlock algorithm recursion recursive function functions unittest pytest stacktrace segfault exception",
    "npm pip cargo webpack react django flask sqlalchemy postgres redis endpoint algorithmus funktion programmiere",
    "quelltext quellcode fehlermeldung klasse schleife rekursiv fonction programme algorithme programmer boucle",
    "función código programar algoritmo programa bucle",
)
CODE_MARKS = ("=>", "->", "::", "!=", "==", "&&", "||", "</", "#include", "();", "):\n", "{\n", ";\n", "self.", "$(")
CODE_SUFFIXES = (
    *(".py", ".js", ".ts", ".tsx", ".jsx", ".rs", ".go", ".java", ".kt", ".cpp", ".cc", ".hpp", ".cs", ".rb", ".php"),
    *(".sh", ".sql", ".yaml", ".yml", ".json", ".toml", ".html", ".css", ".swift"),
)
TRACE_MARKS = (
    "traceback (most recent call last)",
    "\n    at ",
    '  file "',
    "exception in thread",
    "panicked at",
    "segmentation fault",
    "undefined reference",
    "typeerror:",
    "valueerror:",
    "nullpointerexception",
    "syntaxerror",
    "error[e0",
)

MATH_SYMBOLS = "∑∏∫√≤≥≠≈±×÷∞π∂∇∈∉⊂∪∩∀∃⇒⇔→²³"
LATEX_MARKS = (
    *("\\frac", "\\sum", "\\int", "\\sqrt", "\\begin{", "\\lim", "\\left", "\\cdot"),
    *("\\mathbb", "$$", "\\(", "\\["),
)
MATH_WORDS = _words(
    "integral integrate derivative differentiate equation equations theorem lemma proof prove matrix matrices vector",
    "eigenvalue eigenvalues determinant polynomial logarithm probability factorial prime divisible modulo geometry",
    "trigonometry sine cosine hypotenuse algebra calculus arithmetic variance binomial permutations combinatorics",
    "gleichung gleichungen ableitung ableiten integriere beweis beweise beweisen wahrscheinlichkeit primzahl",
    "primzahlen wurzel bruch determinante berechne nullstellen équation équations dérivée intégrale intégrer démontrer",
    "démontre théorème probabilité racine calcule calculer ecuación ecuaciones derivada demuestra demostrar",
    "probabilidad teorema raíz calcula calcular matriz",
)

REASONING_WORDS = _words(
    "why explain compare contrast analyze analyse analysis evaluate assess justify argue argument deduce infer",
    "strategy implications consequences critique hypothesis assumptions tradeoff tradeoffs weigh reason reasoning",
    "warum wieso weshalb erkläre erklären vergleiche vergleichen analysiere begründe begründen bewerte beurteile",
    "erörtere folgere schlussfolgerung abwägen strategie ursachen folgen pourquoi explique expliquer comparer",
    "analyser évalue évaluer justifie justifier argumente déduire stratégie conséquences hypothèse explica explicar",
    "comparar analiza analizar evalúa evaluar justifica justificar argumenta deduce estrategia consecuencias hipótesis",
)
REASONING_PHRASES = (
    "step by step",
    "pros and cons",
    "trade-off",
    "think carefully",
    "what would happen if",
    "schritt für schritt",
    "vor- und nachteile",
    "was würde passieren",
    "étape par étape",
    "avantages et inconvénients",
    "que se passerait-il",
    "paso a paso",
    "ventajas y desventajas",
    "por qué",
    "qué pasaría",
)

HARD_WORDS = _words(
    "prove proof optimal optimize optimise complexity concurrent concurrency distributed architecture rigorous",
    "formally derive generalize novel comprehensive detailed thorough edge-cases race deadlock invariants consensus",
    "beweise beweisen optimal optimiere komplexität nebenläufig verteilt verteiltes architektur ausführlich gründlich",
    "démontrer démontre optimiser complexité distribué réparti architecture détaillé rigoureux approfondi",
    "demuestra demostrar óptimo optimizar complejidad distribuido arquitectura detallado riguroso exhaustivo",
)
