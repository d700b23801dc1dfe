// SPDX-License-Identifier: MIT
// A client with types made from the API's description: node client.js ORIGIN. Submits a task, reads it, is refused.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { argv: string[]; exit(status: number): never };

function fail(what: string, seen: unknown): never {
  console.error(what, JSON.stringify(seen));
  return process.exit(1);
}

const { GET, POST, PATCH } = createClient<paths>({ baseUrl: process.argv[2] });

const submission: components["schemas"]["Submission"] = {
  name: "example_task",
  payload: { key: "value" },
  scheduled_at: "2126-01-31T08:00:00+01:00",
  tags: ["client"],
};
const { data: submitted, error: refusal, response } = await POST("/api/tasks/", { body: submission });
if (!submitted) fail("it was refused", refusal satisfies components["schemas"]["Problem"] | undefined);
if (response.status !== 201) fail("it was not submitted", response.status);

const path = { id: submitted.id };
const { data: paused } = await PATCH("/api/tasks/{id}/pause", { params: { path } });
if (paused?.status !== "PAUSED") fail("it is not paused", paused);

const { data: read } = await GET("/api/tasks/{id}", { params: { path } });
if (read?.id !== submitted.id || read.priority !== "MEDIUM" || read.tags[0] !== "client") fail("it differs", read);

// What the types forbid is what the service refuses.
// @ts-expect-error there is no such priority
const { error } = await POST("/api/tasks/", { body: { name: "example_task", priority: "URGENT" } });
const problem = error as components["schemas"]["Problem"] | undefined;
if (problem?.status !== 422 || problem.errors?.[0]?.field !== "priority") fail("it was not refused", problem);

// @ts-expect-error the name is required
const nameless: components["schemas"]["Submission"] = { payload: null };
// @ts-expect-error a task has no such field
const unknown: unknown = read.priorty;
void [nameless, unknown];

console.log(submitted.id);
