//! Operations that one machine cannot offer: true answers, and refusals that name what is missing.

use super::{invalid, not_found};
use crate::aws::call::RefusedCall;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use crate::aws::resources::ResourceNames;
use serde::Deserialize;
use serde_json::{Value, json};

/// An operation whose answer follows from its input alone. `about`: the member that names its
/// resource.
macro_rules! fixed {
    ($($name:ident about $about:expr => $answer:expr;)*) => {$(
        #[derive(Deserialize)]
        #[serde(transparent)]
        pub(in crate::aws) struct $name(Value);

        impl OperationInput for $name {
            type Subject = ();

            async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
                let about: Option<&str> = $about;
                let named = about.and_then(|member| self.0[member].as_str());
                Ok((RequestScope::of(named.map(|name| ResourceNames::named(name.to_owned()))), ()))
            }

            async fn answer(self, (): (), _: &Origin, _: &Endpoint) -> Result<Value, RefusedCall> {
                let answer: fn(&Value) -> Result<Value, RefusedCall> = $answer;
                answer(&self.0)
            }
        }
    )*};
}

const FLEETS: &str = "Invalid fleet: there are no fleets here; builds run on this machine";

fixed! {
    ListSharedProjects about None => |_| Ok(json!({"projects": []}));
    ListSharedReportGroups about None => |_| Ok(json!({"reportGroups": []}));
    ListSourceCredentials about None => |_| Ok(json!({"sourceCredentialsInfos": []}));
    DeleteSourceCredentials about Some("arn") => |input| {
        Err(not_found(format!("There are no source credentials {}", input["arn"])))
    };
    GetResourcePolicy about Some("resourceArn") => |input| {
        Err(not_found(format!("Resource policy for {} does not exist", input["resourceArn"])))
    };
    DeleteResourcePolicy about Some("resourceArn") => |_| Ok(json!({}));
    PutResourcePolicy about Some("resourceArn") => |_| {
        Err(invalid("Invalid policy: nothing here is shared with other accounts; who may call is in iam.json"))
    };
    ListFleets about None => |_| Ok(json!({"fleets": []}));
    BatchGetFleets about None => |input| {
        Ok(json!({"fleets": [], "fleetsNotFound": input["names"]}))
    };
    CreateFleet about None => |_| Err(invalid(FLEETS));
    UpdateFleet about Some("arn") => |_| Err(invalid(FLEETS));
    DeleteFleet about Some("arn") => |_| Err(invalid(FLEETS));
    ListCuratedEnvironmentImages about None => |_| Ok(json!({"platforms": [{
        "platform": "AMAZON_LINUX",
        "languages": [{"language": "BASE", "images": [
            {"name": "host", "description": "The tools of this machine", "versions": ["host"]},
        ]}],
    }]}));
}
