use super::*;

const ALICE: Who<'_> = Who { principal: "User:alice", host: "10.0.0.1" };

fn authorizer(acls: &[Acl]) -> Authorizer {
    let mut authorizer = Authorizer::new(Some(AuthorizerOptions::default()));
    acls.iter().for_each(|acl| authorizer.add(acl.clone()));
    authorizer
}

fn reads(authorizer: &Authorizer, topic: &str) -> bool {
    authorizer.allows(ALICE, Operation::Read, ResourceType::Topic, topic)
}

#[test]
fn what_no_list_names_is_refused_unless_everyone_is_allowed() {
    assert!(reads(&Authorizer::new(None), "t"));
    assert!(!reads(&authorizer(&[]), "t"));
    let mut open = Authorizer::new(Some(AuthorizerOptions {
        super_users: vec!["User:root".to_owned()],
        allow_everyone_if_no_acl_found: true,
    }));
    assert!(reads(&open, "t"));
    open.add(Acl::allow("User:bob", Operation::Read).topic("t"));
    assert!(!reads(&open, "t"), "the topic has a list now, and alice is not on it");
    let root = Who { principal: "User:root", host: "h" };
    assert!(open.allows(root, Operation::Delete, ResourceType::Topic, "t"));
    let refused = open.check(ALICE, Operation::Read, ResourceType::Topic, "t");
    assert_eq!(refused, Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
}

#[test]
fn literal_prefixed_and_any_names_hosts_and_users_match() {
    let allow = || Acl::allow("User:alice", Operation::Read);
    assert!(reads(&authorizer(&[allow().topic("t")]), "t"));
    assert!(!reads(&authorizer(&[allow().topic("t")]), "tt"));
    assert!(reads(&authorizer(&[allow().topic_prefix("t")]), "tt"));
    assert!(reads(&authorizer(&[allow().topic("*")]), "tt"));
    assert!(!reads(&authorizer(&[allow().group("*")]), "t"));
    assert!(reads(&authorizer(&[Acl::allow("User:*", Operation::All).topic("t")]), "t"));
    assert!(reads(&authorizer(&[allow().topic("t").host("10.0.0.1")]), "t"));
    assert!(!reads(&authorizer(&[allow().topic("t").host("10.0.0.2")]), "t"));
}

#[test]
fn a_denial_wins_and_permissions_imply_describing() {
    let allow = Acl::allow("User:alice", Operation::All).topic("*");
    let deny = Acl::deny("User:*", Operation::Read).topic_prefix("secret-");
    let both = authorizer(&[allow, deny]);
    assert!(reads(&both, "open") && !reads(&both, "secret-1"));
    let describes = |authorizer: &Authorizer, topic: &str| {
        authorizer.allows(ALICE, Operation::Describe, ResourceType::Topic, topic)
    };
    assert!(describes(&both, "secret-1"), "a denial of reading implies nothing");
    for operation in [Operation::Read, Operation::Write, Operation::Delete, Operation::Alter] {
        assert!(describes(&authorizer(&[Acl::allow("User:alice", operation).topic("t")]), "t"));
    }
    let create = authorizer(&[Acl::allow("User:alice", Operation::Create).topic("t")]);
    assert!(!describes(&create, "t"));
}

#[test]
fn some_resource_of_a_type_is_enough_unless_denials_leave_none() {
    let writes = |acls: &[Acl]| authorizer(acls).allows_any(ALICE, Operation::Write, ResourceType::Topic);
    let allow = Acl::allow("User:alice", Operation::Write);
    assert!(!writes(&[]));
    assert!(writes(&[allow.clone().topic("a")]));
    assert!(!writes(&[allow.clone().topic("a"), Acl::deny("User:alice", Operation::Write).topic("*")]));
    let deny_prefix = Acl::deny("User:*", Operation::All).topic_prefix("a");
    assert!(!writes(&[allow.clone().topic_prefix("ab"), deny_prefix.clone()]));
    assert!(writes(&[allow.topic("*"), deny_prefix]));
}

#[test]
fn allowed_operations_are_bits() {
    let bits = Authorizer::new(None).allowed_operations(ALICE, ResourceType::Topic, "t");
    assert_eq!(bits, 3576, "what Kafka answers for a topic");
    let some = authorizer(&[Acl::allow("User:alice", Operation::Read).topic("t")]);
    assert_eq!(some.allowed_operations(ALICE, ResourceType::Topic, "t"), 1 << 3 | 1 << 8);
}
