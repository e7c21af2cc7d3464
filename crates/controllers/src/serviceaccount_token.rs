//! Secrets that hold a token of a service account: they are filled, and go with their account.
//!
//! upstream: pkg/controller/serviceaccount/tokens_controller.go

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_api::Object;
use longshore_client::informer::Change;
use longshore_client::resource::{SECRETS, SERVICE_ACCOUNTS};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Error, Informer, Queue};
use serde_json::{Value, json};

use crate::Context;
use crate::common::{Key, gone_is_fine, key_of, token_secrets};

/// Workers side by side.
const WORKERS: usize = 5;
const KIND: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";

/// What happened to which secret: it is there or changed, or it is gone and belonged to an account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    Present(Key),
    Gone { secret: Key, account: String, uid: String },
}

#[derive(Clone)]
struct Controller {
    ctx: Context,
    secrets: Informer,
    accounts: Informer,
}

pub(crate) fn start(ctx: Context) {
    let (secrets, accounts) = (token_secrets(&ctx), ctx.caches.get(SERVICE_ACCOUNTS));
    let queue = Queue::new();
    let again = queue.clone();
    secrets.on_change(move |change| {
        let secret = change.object();
        if secret.str(&["type"]) != KIND {
            return;
        }
        again.add(match change {
            Change::Applied { .. } => Work::Present(key_of(secret)),
            Change::Deleted(_) => Work::Gone {
                secret: key_of(secret),
                account: account_of(secret).to_owned(),
                uid: secret.annotation(UID).unwrap_or("").to_owned(),
            },
        });
    });
    let (again, all) = (queue.clone(), secrets.clone());
    accounts.on_change(move |change| {
        let account = change.object();
        if matches!(change, Change::Applied { old: Some(_), .. }) {
            return;
        }
        for secret in all.list_namespace(account.namespace()) {
            if secret.str(&["type"]) == KIND && account_of(&secret) == account.name() {
                again.add(Work::Present(key_of(&secret)));
            }
        }
    });
    let shutdown = ctx.shutdown.clone();
    let controller = Controller { ctx, secrets, accounts };
    let name = "serviceaccount-token-controller";
    workers::run(name, queue, WORKERS, &shutdown, move |work| {
        let controller = controller.clone();
        async move { controller.sync(work).await }
    });
}

fn account_of(secret: &Object) -> &str {
    secret.annotation(NAME).unwrap_or("")
}

fn is_same(account: &Object, uid: &str) -> bool {
    uid.is_empty() || account.uid() == uid
}

impl Controller {
    async fn sync(&self, work: Work) -> Outcome {
        self.accounts.synced().await;
        self.secrets.synced().await;
        match work {
            Work::Gone { secret, account, uid } => self.forget(&secret, &account, &uid).await?,
            Work::Present((namespace, name)) => {
                let Some(secret) = self.secrets.get(&namespace, &name) else { return Ok(None) };
                match self.account(&secret).await? {
                    Some(account) => self.fill(&secret, &account).await?,
                    None => {
                        let options = json!({ "preconditions": { "uid": secret.uid() } });
                        let deleted = self.ctx.client.delete(SECRETS, &namespace, &name, options);
                        gone_is_fine(deleted.await)?;
                    }
                }
            }
        }
        Ok(None)
    }

    /// The account that a secret names, also when the cache does not have it yet.
    async fn account(&self, secret: &Object) -> Result<Option<Object>, Error> {
        let (namespace, name) = (secret.namespace(), account_of(secret));
        let uid = secret.annotation(UID).unwrap_or("");
        if let Some(cached) = self.accounts.get(namespace, name).filter(|a| is_same(a, uid)) {
            return Ok(Some((*cached).clone()));
        }
        let live = self.ctx.client.find(SERVICE_ACCOUNTS, namespace, name).await?;
        Ok(live.filter(|account| is_same(account, uid)))
    }

    async fn fill(&self, secret: &Object, account: &Object) -> Result<(), Error> {
        let encode = |text: &str| STANDARD.encode(text);
        let ca = encode(&self.ctx.config.ca_pem);
        let text = |key: &str| secret.str(&["data", key]);
        let current = ca.is_empty() || text("ca.crt") == ca;
        if current && !text("namespace").is_empty() && !text("token").is_empty() {
            return Ok(());
        }
        let mut changed = secret.clone();
        if !ca.is_empty() {
            changed.set(&["data", "ca.crt"], ca);
        }
        if text("namespace").is_empty() {
            changed.set(&["data", "namespace"], encode(secret.namespace()));
        }
        if text("token").is_empty() {
            let token = (self.ctx.config.sign.0)(&claims(account, secret));
            changed.set(&["data", "token"], encode(&token.map_err(Error::Decode)?));
        }
        changed.set(&["metadata", "annotations", NAME], account.name());
        changed.set(&["metadata", "annotations", UID], account.uid());
        match self.ctx.client.update(SECRETS, &changed).await {
            Err(error) if error.is_conflict() => Ok(()), // the change comes back to us
            outcome => gone_is_fine(outcome).map(drop),
        }
    }

    /// An account no longer names a secret that is gone.
    async fn forget(&self, secret: &Key, account: &str, uid: &str) -> Result<(), Error> {
        let cached = self.accounts.get(&secret.0, account);
        if !cached.is_some_and(|account| is_same(&account, uid)) {
            return Ok(());
        }
        let Some(mut live) = self.ctx.client.find(SERVICE_ACCOUNTS, &secret.0, account).await?
        else {
            return Ok(());
        };
        let named = live.list(&["secrets"]);
        let rest: Vec<Value> = named.iter().filter(|s| s["name"] != *secret.1).cloned().collect();
        if !is_same(&live, uid) || rest.len() == named.len() {
            return Ok(());
        }
        live.set(&["secrets"], rest);
        gone_is_fine(self.ctx.client.update(SERVICE_ACCOUNTS, &live).await).map(drop)
    }
}

/// What a token in a secret says; it is good until the secret goes.
///
/// upstream: pkg/serviceaccount/legacy.go LegacyClaims
fn claims(account: &Object, secret: &Object) -> Value {
    json!({
        "iss": "kubernetes/serviceaccount",
        "kubernetes.io/serviceaccount/namespace": account.namespace(),
        "kubernetes.io/serviceaccount/secret.name": secret.name(),
        "kubernetes.io/serviceaccount/service-account.name": account.name(),
        "kubernetes.io/serviceaccount/service-account.uid": account.uid(),
        "sub": format!("system:serviceaccount:{}:{}", account.namespace(), account.name()),
    })
}
