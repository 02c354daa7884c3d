// Both directions of the conversion, for every call and its answer.

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { toCamel, toQuery, toSnake } from "../src/case.ts";

test("fields change, names that are data don't", () => {
  const answer = {
    price_per_m_token: 1,
    allocated_tokens: { a_b: { held_tokens: 1 } },
    tokens: { tokens: { in_use: 1 }, x_y: null },
    items: [{ model_id: null }],
  };
  expect(toCamel(answer)).toEqual({
    pricePerMToken: 1,
    allocatedTokens: { a_b: { heldTokens: 1 } },
    tokens: { tokens: { inUse: 1 }, x_y: null },
    items: [{ modelId: null }],
  });
  expect(toCamel({ a_b: { price_per_m_token: 1 } }, true)).toEqual({ a_b: { pricePerMToken: 1 } });
});

test("every map of the document keeps its names", () => {
  type Schema = { additionalProperties?: unknown; properties?: Record<string, Schema>; $ref?: string };
  const document = JSON.parse(readFileSync("../../tests/it/openapi.json", "utf8"));
  const schemas: Record<string, Schema> = document.components.schemas;
  const resolved = (schema: Schema) => (schema.$ref ? schemas[schema.$ref.split("/").pop()!]! : schema);
  const maps = Object.values(schemas)
    .flatMap(({ properties = {} }) => Object.entries(properties))
    .filter(([, schema]) => resolved(schema).additionalProperties)
    .map(([name]) => name);
  expect(maps).toContain("allocated_tokens");
  for (const name of maps.filter((one) => one !== "purchase_record")) {
    expect(Object.values(toCamel({ [name]: { a_b: 1 } }) as object)).toEqual([{ a_b: 1 }]);
  }
});

test("a purchase's record is kept to the letter", () => {
  const purchaseRecord = { productId: "p", someThing: { innerName: 1 } };
  expect(toSnake({ credits: 1, purchaseRecord })).toEqual({ credits: 1, purchase_record: purchaseRecord });
});

test("what is undefined is not sent", () => {
  expect(toSnake({ minTokens: undefined, tokens: 0 })).toEqual({ tokens: 0 });
  expect(toQuery({ modelId: "a b&c", before: undefined })).toBe("?model_id=a%20b%26c");
  expect(toQuery({})).toBe("");
});

test("there and back again", () => {
  const word = fc.stringMatching(/^[a-z]{1,6}$/);
  const name = fc.array(word, { minLength: 1, maxLength: 4 }).map((words) => words.join("_"));
  const field = fc.oneof(fc.integer(), fc.string(), fc.boolean(), fc.constant(null));
  const plain = fc.dictionary(
    name.filter((one) => !["tokens", "categories", "allocated_tokens", "purchase_record"].includes(one)),
    field,
  );
  fc.assert(
    fc.property(plain, (value) => {
      expect(toSnake(toCamel(value))).toEqual({ ...value });
    }),
  );
});
