// Codes of errors that the service's document doesn't have yet. Nothing else belongs here: what the document has comes
// from `openapi.ts`.

export type LaterCode = "account_frozen";
