// kafkajs as an independent client; the commands are those of ../go/main.go. It knows gzip alone, writes no
// null in a header, and shows header values under one key together.
const { Kafka, CompressionTypes, ConfigResourceTypes, logLevel } = require('kafkajs')

const show = (line) => console.log(JSON.stringify(line))
const text = (bytes) => (bytes === null || bytes === undefined ? null : bytes.toString())
const kafka = (bootstrap) =>
  new Kafka({ clientId: 'kafkajs', brokers: bootstrap.split(','), logLevel: logLevel.NOTHING })

const message = (i, count) => ({
  partition: i % count,
  timestamp: String(1700000000000 + i),
  key: i % 7 === 0 ? null : `key-${i}`,
  value: i % 11 === 0 ? null : `value-${i}`,
  headers: i % 5 === 0 ? { twice: ['a', 'b'] } : {},
})

const showRecord = ({ partition, message }) => {
  const headers = Object.entries(message.headers || {}).flatMap(([key, values]) =>
    [values].flat().map((value) => [key, text(value)]))
  show({
    partition, offset: Number(message.offset), timestamp: Number(message.timestamp),
    key: text(message.key), value: text(message.value), headers,
  })
}

const partitions = async (client, topic) => {
  const admin = client.admin()
  await admin.connect()
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
  await admin.disconnect()
  return topics[0].partitions.length
}

async function produce(bootstrap, topic, n, codec = 'none') {
  const client = kafka(bootstrap)
  const count = await partitions(client, topic)
  const producer = client.producer({ idempotent: true })
  await producer.connect()
  const messages = Array.from({ length: Number(n) }, (_, i) => message(i, count))
  const compression = codec === 'gzip' ? CompressionTypes.GZIP : CompressionTypes.None
  for (const sent of await producer.send({ topic, messages, compression })) {
    show({ partition: sent.partition, offset: Number(sent.baseOffset) })
  }
  await producer.disconnect()
}

async function read(bootstrap, groupId, topic, onRecord, stop) {
  const consumer = kafka(bootstrap).consumer({ groupId, heartbeatInterval: 100, maxWaitTimeInMs: 100 })
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) =>
    show({ assigned: (payload.memberAssignment[topic] || []).length }))
  consumer.on(consumer.events.CRASH, ({ payload }) => {
    console.error(payload.error)
    if (!payload.restart) process.exit(1)
  })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({ autoCommitThreshold: 1, eachMessage: async (record) => onRecord(record) })
  await stop
  await consumer.disconnect()
}

async function consume(bootstrap, topic, n) {
  let stopped
  const stop = new Promise((resolve) => { stopped = resolve })
  let seen = 0
  await read(bootstrap, `kafkajs-consume-${topic}`, topic, (record) => {
    if (seen < Number(n)) showRecord(record)
    seen += 1
    if (seen === Number(n)) stopped()
  }, stop)
}

const group = (bootstrap, groupId, topic) => {
  const stop = new Promise((stopped) => process.stdin.on('end', stopped).resume())
  return read(bootstrap, groupId, topic, showRecord, stop)
}

async function txn(bootstrap, topic, n) {
  const client = kafka(bootstrap)
  const count = await partitions(client, topic)
  const producer = client.producer({ transactionalId: `kafkajs-${topic}`, idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  for (let from = 0; from < Number(n); from += 10) {
    const transaction = await producer.transaction()
    const messages = Array.from({ length: 10 }, (_, i) => message(from + i, count))
    await transaction.send({ topic, messages })
    const committed = (from / 10) % 3 !== 2
    await (committed ? transaction.commit() : transaction.abort())
    show({ committed })
  }
  await producer.disconnect()
}

async function admin(bootstrap, prefix) {
  const client = kafka(bootstrap)
  const admin = client.admin()
  await admin.connect()
  const topic = `${prefix}-topic`
  const configEntries = [{ name: 'retention.ms', value: '60000' }]
  await admin.createTopics({ topics: [{ topic, numPartitions: 3, replicationFactor: 1, configEntries }] })
  show({ created: await partitions(client, topic) })
  const again = await admin.createTopics({ topics: [{ topic, numPartitions: 3 }] })
  show({ again: again ? 'created' : 'exists' })
  await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
  show({ partitions: await partitions(client, topic) })
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
  const { resources } = await admin.describeConfigs({ resources: [{ ...resource, configNames: ['retention.ms'] }] })
  show({ 'retention.ms': resources[0].configEntries[0].configValue })
  const groupId = `${prefix}-group`
  await admin.setOffsets({ groupId, topic, partitions: [{ partition: 1, offset: '7' }] })
  const offsets = await admin.fetchOffsets({ groupId, topics: [topic] })
  show({ committed: Number(offsets[0].partitions.find(({ partition }) => partition === 1).offset) })
  const { groups } = await admin.listGroups()
  show({ listed: groups.some((group) => group.groupId === groupId) })
  const described = await admin.describeGroups([groupId])
  show({ described: described.groups[0].state, members: described.groups[0].members.length })
  await admin.deleteGroups([groupId])
  await admin.deleteTopics({ topics: [topic] })
  show({ deleted: true })
  await admin.disconnect()
}

const [command, ...rest] = process.argv.slice(2)
const run = { produce, consume, group, txn, admin }[command]
run(...rest).then(() => process.exit(0), (error) => {
  console.error(error)
  process.exit(1)
})
