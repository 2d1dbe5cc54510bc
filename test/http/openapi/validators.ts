/** The components of the document as validators. */
import { Ajv2020, type ErrorObject } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

export interface OpenapiSchema extends Readonly<Record<string, unknown>> {
  readonly examples?: readonly unknown[];
  readonly properties?: Readonly<Record<string, unknown>>;
  readonly discriminator?: { readonly mapping: Readonly<Record<string, string>> };
}

export interface OpenapiOperation {
  readonly operationId: string;
  readonly tags?: readonly string[];
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly description?: string }[];
  readonly responses: Readonly<Record<string, { readonly headers?: Readonly<Record<string, unknown>> }>>;
}

export interface OpenapiDocument {
  readonly tags: readonly { readonly name: string }[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, OpenapiOperation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, OpenapiSchema>> };
}

/** Validates a value against a component; returns the errors. */
export function compileComponents(document: OpenapiDocument): (name: string, value: unknown) => readonly ErrorObject[] {
  const ajv = new Ajv2020({ strict: false, allErrors: false });
  addFormats.default(ajv);
  ajv.addSchema({ $id: "doc", components: document.components });
  return (name, value) => {
    const validate = ajv.getSchema(`doc#/components/schemas/${name}`);
    if (validate === undefined) throw new Error(`there is no schema ${name}`);
    return validate(value) === true ? [] : (validate.errors ?? []);
  };
}
