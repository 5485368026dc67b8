// AWS's client for JavaScript: a build and a batch to their ends, pages of a list, an error by its class.
const {
  BatchGetBuildBatchesCommand,
  BatchGetBuildsCommand,
  CodeBuildClient,
  ResourceNotFoundException,
  StartBuildBatchCommand,
  StartBuildCommand,
  StopBuildCommand,
  paginateListBuilds,
} = require("@aws-sdk/client-codebuild");

const client = new CodeBuildClient({});
const pause = () => new Promise((done) => setTimeout(done, 50));

async function main() {
  const { build } = await client.send(new StartBuildCommand({ projectName: "demo" }));
  const { buildBatch } = await client.send(new StartBuildBatchCommand({ projectName: "demo" }));
  let one, batch;
  do {
    await pause();
    [one] = (await client.send(new BatchGetBuildsCommand({ ids: [build.id] }))).builds;
    [batch] = (await client.send(new BatchGetBuildBatchesCommand({ ids: [buildBatch.id] }))).buildBatches;
  } while (!one.buildComplete || !batch.complete);
  if (!(one.startTime instanceof Date && batch.endTime instanceof Date)) throw new Error("times are none");
  const ids = [];
  for await (const page of paginateListBuilds({ client }, {})) ids.push(...page.ids);
  let refused = "nothing";
  try {
    await client.send(new StopBuildCommand({ id: "demo:00000000-0000-4000-8000-000000000000" }));
  } catch (error) {
    refused = error instanceof ResourceNotFoundException ? error.name : `${error}`;
  }
  console.log(one.buildStatus, batch.buildBatchStatus, ids.length, refused);
}

main();
