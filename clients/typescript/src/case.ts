// snake_case on the wire, camelCase in TypeScript: both directions, as values and as types. Keys that are data (ids
// of models, of products) and what is kept to the letter (a purchase's record) are left alone.

/** Fields that hold a map: their keys are names that somebody gave. */
type MapField = "allocated_tokens" | "categories" | "tokens";
const MAPS: readonly string[] = ["allocated_tokens", "categories", "tokens"] satisfies MapField[];
/** Fields that go to the service as they are. */
const VERBATIM: readonly string[] = ["purchaseRecord"];

/** `model_id` → `modelId` */
type CamelName<S> = S extends `${infer Head}_${infer Tail}` ? `${Head}${Capitalize<CamelName<Tail>>}` : S;

/** An answer's type in camelCase. All of its fields are there, so none is optional. */
export type Camel<T> = T extends readonly (infer Item)[]
  ? Camel<Item>[]
  : T extends object
    ? string extends keyof T
      ? { [Key in keyof T]: Camel<T[Key]> }
      : { [Key in keyof T as CamelName<Key>]-?: Camel<Exclude<T[Key], undefined>> }
    : T;

/** A request's type in camelCase. */
export type CamelRequest<T> = T extends readonly (infer Item)[]
  ? CamelRequest<Item>[]
  : T extends object
    ? string extends keyof T
      ? T
      : { [Key in keyof T as CamelName<Key>]: CamelRequest<T[Key]> }
    : T;

/** `model_id` → `modelId` */
export function camelName(name: string): string {
  return name.replace(/_+([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

function snakeName(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** An answer with its fields in camelCase. `isMap` where the keys of the whole are data. */
export function toCamel(value: unknown, isMap = false): unknown {
  if (Array.isArray(value)) return value.map((item) => toCamel(item));
  if (typeof value !== "object" || value === null) return value;
  // `fromEntries` defines: a model called `__proto__` is a model.
  return Object.fromEntries(
    Object.entries(value).map(([name, field]) =>
      isMap ? [name, toCamel(field)] : [camelName(name), toCamel(field, MAPS.includes(name))],
    ),
  );
}

/** A request with its fields in snake_case; what is `undefined` is left out. */
export function toSnake(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(toSnake);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, field]) => field !== undefined)
      .map(([name, field]) => [snakeName(name), VERBATIM.includes(name) ? field : toSnake(field)]),
  );
}

/** A query string of these parameters, empty without any. */
export function toQuery(params: object): string {
  const parts = Object.entries(toSnake(params) as Record<string, unknown>).map(
    ([name, value]) => `${name}=${encodeURIComponent(String(value))}`,
  );
  return parts.length === 0 ? "" : `?${parts.join("&")}`;
}
