"""How people ask: templates per intent, English and Chinese.

`{a|b|}` picks one, and may be nested. `@P` is a site's slot, `@M` a model's, `@X` a provider that
is not configured, `@E` an unknown code. A template that begins with `~` is never trained on: it
belongs to the held-out wording.
"""

import questions_fixed
import questions_more
import questions_more_fixed
import questions_state


def together(first, more):
    """By intent, English and Chinese templates of both."""
    nothing = ([], [])
    return {
        intent: tuple(
            first.get(intent, nothing)[tongue] + more.get(intent, nothing)[tongue]
            for tongue in (0, 1)
        )
        for intent in {**first, **more}
    }


STATE = together(questions_state.STATE, questions_more.STATE)
FIXED = together(questions_fixed.FIXED, questions_more_fixed.FIXED)

__all__ = ["CODES", "FIXED", "STATE", "UNKNOWN"]

# providers and codes that nobody set up: (trained on, held out)
UNKNOWN = (
    [
        "openai", "gemini", "claude", "mistral", "groq", "cohere", "azure", "bedrock", "ernie",
        "zhipu", "together", "fireworks", "perplexity", "minimax", "doubao", "hunyuan", "Baidu",
        "google", "the xai site", "nvidia",
    ],
    [
        "anthropic", "stepfun", "openrouter", "yi", "replicate", "cerebras", "sambanova",
    ],
)
CODES = (
    [
        "500", "418", "505", "403.5", "508", "520", "522", "499", "1020", "301", "302", "204",
        "409", "410", "422", "425", "451", "507", "523", "599", "700", "E17", "0x80", "E_FAIL",
        "EPIPE", "ECONNRESET",
    ],
    [
        "501", "521", "406", "417", "511", "E42", "ENOENT",
    ],
)
