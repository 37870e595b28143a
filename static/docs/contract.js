/** Reads a contract (OpenAPI or AsyncAPI): resolves its references, and describes its schemas in words. */

import { addressOf } from "../base.js";

const TYPES = { integer: "whole number", number: "number", string: "text", boolean: "true or false", object: "object", null: "null" };

export class Contract {
  static async load(path) {
    const answer = await fetch(addressOf(path));
    if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
    return new Contract(await answer.json());
  }

  constructor(json) {
    this.json = json;
  }

  /** Return the target of a reference, or the part itself. */
  follow(part) {
    let found = part;
    while (found.$ref) {
      const words = found.$ref.slice(2).split("/");
      found = words.reduce((value, word) => value[word.replaceAll("~1", "/").replaceAll("~0", "~")], this.json);
    }
    return found;
  }

  /** Return a schema's type in words: "list of Coin", "number or null". */
  type(schema) {
    if (schema.$ref) return schema.$ref.split("/").at(-1);
    if (schema.title) return schema.title;
    if ("const" in schema) return JSON.stringify(schema.const);
    const either = schema.oneOf ?? schema.anyOf;
    if (either && !schema.properties) return either.length > 3 ? "one of several" : either.map((each) => this.type(each)).join(" or ");
    if (schema.type === "array") return `list of ${this.type(schema.items)}`;
    if (!schema.type) return schema.enum ? "one of" : "anything";
    const types = [schema.type].flat().map((type) => (type === "object" && schema.additionalProperties?.type ? "object by name" : TYPES[type]));
    return types.join(" or ");
  }

  /** Return a schema's bounds in words: "1 to 1000", "at most 100". */
  bounds(schema) {
    const { minimum, maximum, exclusiveMinimum, minItems, maxItems, maxLength } = schema;
    const found = [];
    if (minimum !== undefined && maximum !== undefined) found.push(`${minimum} to ${maximum}`);
    else if (minimum !== undefined) found.push(`at least ${minimum}`);
    if (exclusiveMinimum !== undefined) found.push(`above ${exclusiveMinimum}`);
    if (minItems > 0) found.push(`at least ${minItems}`);
    if (maxItems !== undefined) found.push(`at most ${maxItems}`);
    if (maxLength !== undefined) found.push(`up to ${maxLength} characters`);
    return found.join(", ");
  }
}
