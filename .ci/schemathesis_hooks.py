"""Makes schemathesis's requests say what a document can't.

That a key was used before depends on earlier requests, so each gets one of its own where it is usable. Which
names a `Billing-User` may be depends on who asks, and on what its escapes come to, so each that may be one is the
name that .ci/contract logs in with. And to JSON Schema 1.0 is an integer; to this API, as to its clients' types, it
is not.
"""

import datetime
import re
import uuid

import schemathesis

HEADER = "Idempotency-Key"
USABLE = re.compile("[!-~]{1,255}")
USER_HEADER = "Billing-User"
USER = "contract"
# Most days of a usage.
DAYS_MAX = 400
# As the document has it.
MAY_BE_A_USER = re.compile("(?=.{1,1536}$)([!-$&-~]|%[0-9A-Fa-f]{2})+")


def whole(value):
    """The value with whole numbers written as such."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return value


def day(text):
    """The day of a date as the API takes it."""
    if not isinstance(text, str) or not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return None
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        return None


@schemathesis.hook
def before_call(context, case, kwargs):
    key = (case.headers or {}).get(HEADER)
    if isinstance(key, str) and USABLE.fullmatch(key):
        case.headers[HEADER] = str(uuid.uuid4())
    user = (case.headers or {}).get(USER_HEADER)
    if isinstance(user, str) and MAY_BE_A_USER.fullmatch(user):
        case.headers[USER_HEADER] = USER
    if isinstance(case.body, (dict, list)):
        case.body = whole(case.body)
    # The least of a hold is at most the most, which a schema can't say.
    if case.path.endswith("/holds") and isinstance(case.body, dict):
        least, most = case.body.get("min_tokens"), case.body.get("tokens")
        if isinstance(least, int) and isinstance(most, int) and least > most:
            del case.body["min_tokens"]
    # So are zones that there are, and days in their order, of which there may be so many.
    if case.path.endswith("/usage") and isinstance(case.query, dict):
        if isinstance(case.query.get("timezone"), str):
            case.query["timezone"] = "Asia/Tokyo"
        first, last = (day(case.query.get(name)) for name in ("from", "to"))
        if first and last and not 0 <= (last - first).days < DAYS_MAX:
            case.query["to"] = case.query["from"]
    # Examples are not filtered.
    if case.path.endswith("/quote") and {"credits", "tokens"} <= set(case.query or {}):
        del case.query["tokens"]


@schemathesis.hook
def filter_case(context, case):
    """Leaves out what the document can't say: query parameters that the API does not know are ignored, as FastAPI
    does, and a quote takes one of two amounts."""
    query = case.query or {}
    if case.path.endswith("/quote") and ("credits" in query) == ("tokens" in query):
        return False
    return not any(name.startswith("x-schemathesis-unknown") for name in query)
