// SPDX-License-Identifier: MIT
// Redocly's recommended rules for an API description: node lint.js FILE. Prints what they say; 1 if that is anything.
import { createConfig, formatProblems, getTotals, lint } from "@redocly/openapi-core";

const rules = {
  "no-path-trailing-slash": "off", // collections have one; every path works with and without it
  "no-server-example.com": "off",
  "no-unused-components": "off", // what events carry is no body, so nothing can refer to its schema
  "operation-4xx-response": "error",
  "no-invalid-media-type-examples": "error",
  "no-invalid-schema-examples": "error",
  "operation-description": "error",
  "parameter-description": "error",
};
const config = await createConfig({ extends: ["recommended"], rules, telemetry: "off" });
const problems = await lint({ ref: process.argv[2], config });
const totals = getTotals(problems);
formatProblems(problems, { format: "codeframe", totals, version: "" });
process.exit(totals.errors + totals.warnings ? 1 : 0);
