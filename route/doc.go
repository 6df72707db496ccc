// Package route says where an event goes: from its tenant and topic to sinks and full destination names. It is pure: package event and the
// standard library only, no goroutine, no clock, no I/O.
//
// # Rules
//
// The first [Rule] whose globs match tenant and topic wins; "*" stands for any run of characters, also none, "?" for one character; an
// empty glob stands for all. A rule has one or more targets. A destination is a template with the placeholders {tenant}, {topic},
// {aggregate_type} and {shard}; "outbox:{tenant}:{topic}" makes "outbox:acme:orders".
//
// # A value stays in its place
//
// A name is made of the values as they are. What does not fit is rejected, never rewritten or escaped: a rewritten name
// could be another tenant's. Of a value it is demanded that
//
//   - it is not NULL and not empty, is UTF-8, and has only printable characters and no braces (which mark the
//     part of a Redis Cluster key that is hashed);
//   - it ends where the template's next literal begins for the first time. In "outbox:{tenant}:{topic}" the tenant "a:b" is rejected, because
//     with the topic "c" it would share a stream with the tenant "a" and the topic "b:c". The topic may contain a colon;
//   - a tenant contains no literal that stands between two placeholders in any template of the same sink: the tenant "a:b" is
//     rejected by "outbox:{tenant}" too where another target writes to "outbox:{tenant}:{topic}";
//   - the sink's own rules allow it. Pulsar: letters, digits and -_=:. in a tenant or namespace; no slash and no space in a topic; no part "." or
//     ".."; no topic that addresses a partition ("-partition-0") or that the broker uses itself ("__change_events").
//
// So within one template different values never make the same name. Between templates the literals keep names apart, and that is the
// configuration's matter: "all" and "{tenant}" meet at the tenant "all", and two rules may lead to one destination on purpose.
//
// # Shards
//
// Where several instances share the table ([Shard]), two of them never make the same name. Each template holds what tells them apart: {tenant} (or
// its rule matches one literal tenant) where tenants are shared out, else {shard}. Within one template that is enough. Where another
// template of the sink could have made the name for another tenant or shard, the event is rejected: "{topic}:{tenant}" beside "{tenant}:{topic}"
// would let two tenants meet. Two sinks are taken for two brokers.
//
// # Errors
//
// [New] refuses what could never work: an unknown sink or placeholder, a brace without its partner, two placeholders
// without a literal between, a rule without a target or behind one that matches all it matches, a name that is no topic of Pulsar. Each error
// names the place in the configuration ("routes[0].to[1]") and the mend.
//
// [Router.Route] returns [ErrUnrouted] when no rule matches, and a [NameError] when a value does not fit, or the name is longer than 1,000 bytes. The caller must not
// publish the event anywhere then, also where only one of several targets is at fault.
package route
