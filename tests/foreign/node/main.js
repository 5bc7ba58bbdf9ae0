// kafkajs as an independent client; the commands are those of ../go/main.go. It knows gzip alone, so the other codecs
// come by its hook: snappy with its own plug-in, LZ4 and zstd from packages without native code (its plug-ins for those
// want a C compiler). It writes no null in a header, shows header values under one key together, has no KIP-848, and
// no administration of users.
const { createInterface } = require('node:readline')
const { isDeepStrictEqual } = require('node:util')
const {
  AclOperationTypes, AclPermissionTypes, AclResourceTypes, AssignerProtocol, CompressionCodecs, CompressionTypes,
  ConfigResourceTypes, Kafka, PartitionAssigners, ResourcePatternTypes, logLevel,
} = require('kafkajs')
const lz4 = require('lz4js')
const { ZstdCodec } = require('zstd-codec')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  // Kafka takes frames of independent blocks alone. One of a single block is one, so it is told (and the header's sum
  // is that of the flags 0x60 and the block size 0x70).
  compress: async ({ buffer }) => {
    const frame = Buffer.from(lz4.compress(buffer))
    frame.set([0x60, 0x70, 0x73], 4)
    return frame
  },
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
})

const zstd = new Promise((resolve) => ZstdCodec.run(({ Streaming }) => resolve(new Streaming())))
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async ({ buffer }) => Buffer.from((await zstd).compress(buffer)),
  decompress: async (buffer) => Buffer.from((await zstd).decompress(buffer)),
})

const codecs = {
  none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD,
}

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

// Asks until the answer is `wanted`, as a broker learns a moment later what its controller has acknowledged; the last
// answer or failure, after a minute.
const until = async (wanted, ask) => {
  const end = Date.now() + 60000
  for (;;) {
    const failed = (error) => {
      if (Date.now() > end) throw error
    }
    const answer = await ask().catch(failed)
    if (isDeepStrictEqual(answer, wanted) || Date.now() > end) return answer
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
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
  for (const sent of await producer.send({ topic, messages, compression: codecs[codec] })) {
    show({ partition: sent.partition, offset: Number(sent.baseOffset) })
  }
  await producer.disconnect()
}

// Its own assignor under the name of Java's, which divides in the same way: so it finds itself in groups with others.
const roundrobin = (parts) => ({
  ...PartitionAssigners.roundRobin(parts),
  name: 'roundrobin',
  protocol: ({ topics }) =>
    ({ name: 'roundrobin', metadata: AssignerProtocol.MemberMetadata.encode({ version: 0, topics }) }),
})

async function reader(bootstrap, groupId, topic, assignor) {
  const partitionAssigners = [assignor === 'roundrobin' ? roundrobin : PartitionAssigners.roundRobin]
  const consumer = kafka(bootstrap).consumer({ groupId, partitionAssigners, heartbeatInterval: 100, maxWaitTimeInMs: 100 })
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) =>
    show({ assigned: (payload.memberAssignment[topic] || []).length }))
  consumer.on(consumer.events.CRASH, ({ payload }) => {
    if (!payload.restart) fail(payload.error)
  })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  return consumer
}

async function consume(bootstrap, topic, n) {
  const consumer = await reader(bootstrap, `kafkajs-consume-${topic}-${process.pid}`, topic)
  let seen = 0
  await new Promise((resolve) => consumer.run({
    autoCommit: false,
    eachMessage: async (record) => {
      if (seen < Number(n)) showRecord(record)
      seen += 1
      if (seen === Number(n)) resolve()
    },
  }))
  await consumer.disconnect()
}

let stop = () => {}

async function group(bootstrap, groupId, topic, protocol, assignor) {
  const stopped = new Promise((resolve) => { stop = resolve })
  const consumer = await reader(bootstrap, groupId, topic, assignor)
  await consumer.run({ autoCommitThreshold: 1, eachMessage: async (record) => showRecord(record) })
  await stopped
  await consumer.disconnect()
}

async function copy(bootstrap, groupId, from, to, n) {
  const consumer = await reader(bootstrap, groupId, from)
  const producer = kafka(bootstrap).producer({ transactionalId: `kafkajs-${to}`, idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  let [copied, turn] = [0, 0]
  const copyBatch = async ({ partition, messages }) => {
    const transaction = await producer.transaction()
    const writable = (headers) => Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== null))
    const copies = messages.map((message) => ({ ...message, partition, headers: writable(message.headers) }))
    await transaction.send({ topic: to, messages: copies })
    const offset = String(Number(messages[messages.length - 1].offset) + 1)
    await transaction.sendOffsets({ consumerGroupId: groupId, topics: [{ topic: from, partitions: [{ partition, offset }] }] })
    turn += 1
    const committed = turn % 3 !== 0
    await (committed ? transaction.commit() : transaction.abort())
    if (committed) copied += messages.length
    show({ committed })
    return committed
  }
  await new Promise((resolve) => consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: false,
    eachBatch: async ({ batch, resolveOffset, heartbeat }) => {
      for (let at = 0; at < batch.messages.length;) {
        const messages = batch.messages.slice(at, at + 10)
        if (await copyBatch({ partition: batch.partition, messages })) {
          at += messages.length
          resolveOffset(messages[messages.length - 1].offset)
        }
        await heartbeat()
      }
      if (copied === Number(n)) resolve()
    },
  }))
  await consumer.disconnect()
  await producer.disconnect()
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
  const topics = [{ topic, numPartitions: 3, replicationFactor: 1, configEntries }]
  // It would not wait for leaders, but fail as long as the broker does not know the topic.
  await admin.createTopics({ waitForLeaders: false, topics })
  show({ created: await until(3, () => partitions(client, topic)) })
  const again = await admin.createTopics({ topics })
  show({ again: again ? 'created' : 'exists' })
  await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
  show({ partitions: await until(5, () => partitions(client, topic)) })
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
  const altered = [{ name: 'retention.ms', value: '70000' }]
  await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries: altered }] })
  const configured = async () => {
    const { resources } = await admin.describeConfigs({ resources: [{ ...resource, configNames: ['retention.ms'] }] })
    return resources[0].configEntries[0].configValue
  }
  show({ 'retention.ms': await until('70000', configured) })
  const groupId = `${prefix}-group`
  const committed = async () => {
    await admin.setOffsets({ groupId, topic, partitions: [{ partition: 1, offset: '7' }] })
    const offsets = await admin.fetchOffsets({ groupId, topics: [topic] })
    return Number(offsets[0].partitions.find(({ partition }) => partition === 1).offset)
  }
  show({ committed: await until(7, committed) })
  const { groups } = await admin.listGroups()
  show({ listed: groups.some((group) => group.groupId === groupId) })
  const described = await admin.describeGroups([groupId])
  show({ described: described.groups[0].state, members: described.groups[0].members.length })
  const ends = await admin.fetchTopicOffsets(topic)
  show({ end: Number(ends.find(({ partition }) => partition === 4).high) })
  await admin.deleteGroups([groupId])
  await admin.deleteTopics({ topics: [topic] })
  show({ deleted: true })
  await admin.disconnect()
}

const nameOf = (types, number) => Object.keys(types).find((name) => types[name] === number)

async function rights(bootstrap, prefix) {
  const admin = kafka(bootstrap).admin()
  await admin.connect()
  const of = { resourceType: AclResourceTypes.TOPIC, resourceName: prefix, principal: `User:${prefix}`, host: '*' }
  const may = { ...of, resourcePatternType: ResourcePatternTypes.LITERAL, operation: AclOperationTypes.READ }
  const mayNot = { ...of, resourcePatternType: ResourcePatternTypes.PREFIXED, operation: AclOperationTypes.WRITE }
  const { ALLOW, DENY, ANY } = AclPermissionTypes
  await admin.createAcls({ acl: [{ ...may, permissionType: ALLOW }, { ...mayNot, permissionType: DENY }] })
  const acls = async () => {
    const any = { resourcePatternType: ResourcePatternTypes.ANY, operation: AclOperationTypes.ANY, permissionType: ANY }
    const { resources } = await admin.describeAcls({ ...of, ...any })
    const words = resources.flatMap(({ acls, resourcePatternType }) => acls.map(({ permissionType, operation }) =>
      [nameOf(AclPermissionTypes, permissionType), nameOf(AclOperationTypes, operation),
        nameOf(ResourcePatternTypes, resourcePatternType)].join(' ')))
    return words.sort()
  }
  show({ acls: await until(['ALLOW READ LITERAL', 'DENY WRITE PREFIXED'], acls) })
  const { filterResponses } = await admin.deleteAcls({ filters: [{ ...mayNot, permissionType: DENY }] })
  show({ revoked: filterResponses[0].matchingAcls.length })
  show({ acls: await until(['ALLOW READ LITERAL'], acls) })
  await admin.disconnect()
}

const fail = (error) => {
  console.error(error)
  process.exit(1)
}

const commands = { produce, consume, group, txn, copy, admin, rights }
createInterface({ input: process.stdin })
  .on('close', () => process.exit(0))
  .on('line', (line) => {
    if (line === 'stop') return stop()
    const [command, ...rest] = line.split(' ')
    return commands[command](...rest).then(() => show({ done: true }), fail)
  })
