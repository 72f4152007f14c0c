// Creates the tables of a queue, as its own library does: node migrate.mjs graphile|pgboss URL
const [queue, url] = process.argv.slice(2);

if (queue === 'graphile') {
  const { Logger, makeWorkerUtils } = await import('graphile-worker');
  const utils = await makeWorkerUtils({ connectionString: url, logger: new Logger(() => () => {}) });
  await utils.migrate();
  await utils.release();
} else {
  const { PgBoss } = await import('pg-boss');
  const boss = new PgBoss(url);
  await boss.start();
  await boss.createQueue('mail');
  await boss.createQueue('other');
  await boss.stop();
}
