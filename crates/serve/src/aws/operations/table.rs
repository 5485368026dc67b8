//! The table of operations.

use super::{AwsService, Operation, OperationEffect, Perform, perform};
use crate::aws::iam::Of;
use crate::aws::{
    cloudtrail, codebuild, documents, ec2, ecs, iam, kms, logs, run_command, ssm, sts,
};

/// An operation that changes nothing.
const fn reads(service: AwsService, action: &'static str, perform: Perform) -> Operation {
    operation(service, action, OperationEffect::Reads, perform)
}

/// An operation that changes something.
const fn changes(service: AwsService, action: &'static str, perform: Perform) -> Operation {
    operation(service, action, OperationEffect::Changes, perform)
}

const fn operation(
    service: AwsService,
    action: &'static str,
    effect: OperationEffect,
    perform: Perform,
) -> Operation {
    // The part after the service and the colon.
    let (_, name) = action.split_at(service.name().len() + 1);
    Operation { service, name, action, effect, perform }
}

/// All operations, by service.
pub(in crate::aws) const OPERATIONS: &[Operation] = &[
    reads(AwsService::CodeBuild, "codebuild:BatchGetBuilds", perform::<codebuild::BatchGetBuilds>),
    reads(AwsService::CodeBuild, "codebuild:ListBuilds", perform::<codebuild::ListBuilds>),
    changes(AwsService::CodeBuild, "codebuild:StopBuild", perform::<codebuild::StopBuild>),
    changes(AwsService::CodeBuild, "codebuild:CreateProject", perform::<codebuild::CreateProject>),
    changes(AwsService::CodeBuild, "codebuild:UpdateProject", perform::<codebuild::UpdateProject>),
    reads(
        AwsService::CodeBuild,
        "codebuild:BatchGetProjects",
        perform::<codebuild::BatchGetProjects>,
    ),
    reads(AwsService::CodeBuild, "codebuild:ListProjects", perform::<codebuild::ListProjects>),
    changes(
        AwsService::CodeBuild,
        "codebuild:InvalidateProjectCache",
        perform::<codebuild::InvalidateProjectCache>,
    ),
    changes(
        AwsService::CodeBuild,
        "codebuild:UpdateProjectVisibility",
        perform::<codebuild::UpdateProjectVisibility>,
    ),
    changes(AwsService::CodeBuild, "codebuild:StartBuild", perform::<codebuild::StartBuild>),
    changes(AwsService::CodeBuild, "codebuild:RetryBuild", perform::<codebuild::RetryBuild>),
    reads(
        AwsService::CodeBuild,
        "codebuild:ListBuildsForProject",
        perform::<codebuild::ListBuildsForProject>,
    ),
    changes(
        AwsService::CodeBuild,
        "codebuild:BatchDeleteBuilds",
        perform::<codebuild::BatchDeleteBuilds>,
    ),
    changes(
        AwsService::CodeBuild,
        "codebuild:StartBuildBatch",
        perform::<codebuild::StartBuildBatch>,
    ),
    changes(
        AwsService::CodeBuild,
        "codebuild:StopBuildBatch",
        perform::<codebuild::StopBuildBatch>,
    ),
    changes(
        AwsService::CodeBuild,
        "codebuild:RetryBuildBatch",
        perform::<codebuild::RetryBuildBatch>,
    ),
    reads(
        AwsService::CodeBuild,
        "codebuild:BatchGetBuildBatches",
        perform::<codebuild::BatchGetBuildBatches>,
    ),
    reads(
        AwsService::CodeBuild,
        "codebuild:ListBuildBatches",
        perform::<codebuild::ListBuildBatches>,
    ),
    reads(
        AwsService::CodeBuild,
        "codebuild:ListBuildBatchesForProject",
        perform::<codebuild::ListBuildBatchesForProject>,
    ),
    changes(
        AwsService::CodeBuild,
        "codebuild:DeleteBuildBatch",
        perform::<codebuild::DeleteBuildBatch>,
    ),
    changes(AwsService::CodeBuild, "codebuild:DeleteProject", perform::<codebuild::DeleteProject>),
    reads(
        AwsService::CodeBuild,
        "codebuild:ListCuratedEnvironmentImages",
        perform::<codebuild::ListCuratedEnvironmentImages>,
    ),
    reads(
        AwsService::CodeBuild,
        "codebuild:ListSharedProjects",
        perform::<codebuild::ListSharedProjects>,
    ),
    reads(
        AwsService::CodeBuild,
        "codebuild:ListSharedReportGroups",
        perform::<codebuild::ListSharedReportGroups>,
    ),
    reads(
        AwsService::CodeBuild,
        "codebuild:ListSourceCredentials",
        perform::<codebuild::ListSourceCredentials>,
    ),
    changes(
        AwsService::CodeBuild,
        "codebuild:DeleteSourceCredentials",
        perform::<codebuild::DeleteSourceCredentials>,
    ),
    reads(
        AwsService::CodeBuild,
        "codebuild:GetResourcePolicy",
        perform::<codebuild::GetResourcePolicy>,
    ),
    changes(
        AwsService::CodeBuild,
        "codebuild:DeleteResourcePolicy",
        perform::<codebuild::DeleteResourcePolicy>,
    ),
    changes(
        AwsService::CodeBuild,
        "codebuild:PutResourcePolicy",
        perform::<codebuild::PutResourcePolicy>,
    ),
    changes(AwsService::CodeBuild, "codebuild:CreateFleet", perform::<codebuild::CreateFleet>),
    changes(AwsService::CodeBuild, "codebuild:UpdateFleet", perform::<codebuild::UpdateFleet>),
    changes(AwsService::CodeBuild, "codebuild:DeleteFleet", perform::<codebuild::DeleteFleet>),
    reads(AwsService::CodeBuild, "codebuild:ListFleets", perform::<codebuild::ListFleets>),
    reads(AwsService::CodeBuild, "codebuild:BatchGetFleets", perform::<codebuild::BatchGetFleets>),
    reads(AwsService::Logs, "logs:DescribeLogGroups", perform::<logs::DescribeLogGroups>),
    reads(AwsService::Logs, "logs:DescribeLogStreams", perform::<logs::DescribeLogStreams>),
    reads(AwsService::Logs, "logs:GetLogEvents", perform::<logs::GetLogEvents>),
    reads(AwsService::Logs, "logs:FilterLogEvents", perform::<logs::FilterLogEvents>),
    changes(AwsService::Ssm, "ssm:StartSession", perform::<ssm::StartSession>),
    changes(AwsService::Ssm, "ssm:ResumeSession", perform::<ssm::ResumeSession>),
    changes(AwsService::Ssm, "ssm:TerminateSession", perform::<ssm::TerminateSession>),
    reads(AwsService::Ssm, "ssm:DescribeSessions", perform::<ssm::DescribeSessions>),
    reads(AwsService::Ssm, "ssm:GetConnectionStatus", perform::<ssm::GetConnectionStatus>),
    changes(AwsService::Ssm, "ssm:CreateDocument", perform::<documents::CreateDocument>),
    reads(AwsService::Ssm, "ssm:GetDocument", perform::<documents::GetDocument>),
    reads(AwsService::Ssm, "ssm:DescribeDocument", perform::<documents::DescribeDocument>),
    reads(AwsService::Ssm, "ssm:ListDocuments", perform::<documents::ListDocuments>),
    reads(AwsService::Ssm, "ssm:ListDocumentVersions", perform::<documents::ListDocumentVersions>),
    changes(AwsService::Ssm, "ssm:UpdateDocument", perform::<documents::UpdateDocument>),
    changes(
        AwsService::Ssm,
        "ssm:UpdateDocumentDefaultVersion",
        perform::<documents::UpdateDocumentDefaultVersion>,
    ),
    changes(AwsService::Ssm, "ssm:DeleteDocument", perform::<documents::DeleteDocument>),
    changes(AwsService::Ssm, "ssm:SendCommand", perform::<run_command::SendCommand>),
    changes(AwsService::Ssm, "ssm:CancelCommand", perform::<run_command::CancelCommand>),
    reads(AwsService::Ssm, "ssm:ListCommands", perform::<run_command::ListCommands>),
    reads(
        AwsService::Ssm,
        "ssm:ListCommandInvocations",
        perform::<run_command::ListCommandInvocations>,
    ),
    reads(
        AwsService::Ssm,
        "ssm:GetCommandInvocation",
        perform::<run_command::GetCommandInvocation>,
    ),
    reads(
        AwsService::Ssm,
        "ssm:DescribeInstanceInformation",
        perform::<run_command::DescribeInstanceInformation>,
    ),
    changes(AwsService::Ecs, "ecs:ExecuteCommand", perform::<ecs::ExecuteCommand>),
    reads(AwsService::Ecs, "ecs:DescribeTasks", perform::<ecs::DescribeTasks>),
    reads(AwsService::Ecs, "ecs:ListTasks", perform::<ecs::ListTasks>),
    reads(AwsService::Ecs, "ecs:DescribeClusters", perform::<ecs::DescribeClusters>),
    reads(AwsService::Ecs, "ecs:ListClusters", perform::<ecs::ListClusters>),
    changes(AwsService::Ecs, "ecs:CreateCluster", perform::<ecs::CreateCluster>),
    changes(AwsService::Ecs, "ecs:UpdateCluster", perform::<ecs::UpdateCluster>),
    changes(AwsService::Ecs, "ecs:DeleteCluster", perform::<ecs::DeleteCluster>),
    changes(AwsService::Ecs, "ecs:TagResource", perform::<ecs::TagResource>),
    changes(AwsService::Ecs, "ecs:UntagResource", perform::<ecs::UntagResource>),
    reads(AwsService::Ecs, "ecs:ListTagsForResource", perform::<ecs::ListTagsForResource>),
    changes(AwsService::Ecs, "ecs:RunTask", perform::<ecs::RunTask>),
    changes(AwsService::Ecs, "ecs:StartTask", perform::<ecs::StartTask>),
    changes(AwsService::Ecs, "ecs:StopTask", perform::<ecs::StopTask>),
    reads(AwsService::Ecs, "ecs:DescribeTaskDefinition", perform::<ecs::DescribeTaskDefinition>),
    changes(AwsService::Ecs, "ecs:CreateService", perform::<ecs::CreateService>),
    changes(AwsService::Ecs, "ecs:UpdateService", perform::<ecs::UpdateService>),
    reads(AwsService::Sts, "sts:GetCallerIdentity", perform::<sts::GetCallerIdentity>),
    reads(AwsService::Iam, "iam:SimulatePrincipalPolicy", perform::<iam::SimulatePrincipalPolicy>),
    reads(AwsService::Iam, "iam:SimulateCustomPolicy", perform::<iam::SimulateCustomPolicy>),
    reads(AwsService::Iam, "iam:GetRole", perform::<iam::GetRole>),
    changes(AwsService::Iam, "iam:CreateUser", perform::<Of<iam::CreateUser>>),
    reads(AwsService::Iam, "iam:GetUser", perform::<Of<iam::GetUser>>),
    reads(AwsService::Iam, "iam:ListUsers", perform::<Of<iam::ListUsers>>),
    changes(AwsService::Iam, "iam:DeleteUser", perform::<Of<iam::DeleteUser>>),
    changes(AwsService::Iam, "iam:TagUser", perform::<Of<iam::TagUser>>),
    changes(AwsService::Iam, "iam:UntagUser", perform::<Of<iam::UntagUser>>),
    reads(AwsService::Iam, "iam:ListUserTags", perform::<Of<iam::ListUserTags>>),
    changes(AwsService::Iam, "iam:CreateAccessKey", perform::<Of<iam::CreateAccessKey>>),
    reads(AwsService::Iam, "iam:ListAccessKeys", perform::<Of<iam::ListAccessKeys>>),
    changes(AwsService::Iam, "iam:UpdateAccessKey", perform::<Of<iam::UpdateAccessKey>>),
    changes(AwsService::Iam, "iam:DeleteAccessKey", perform::<Of<iam::DeleteAccessKey>>),
    changes(AwsService::Iam, "iam:PutUserPolicy", perform::<Of<iam::PutUserPolicy>>),
    reads(AwsService::Iam, "iam:GetUserPolicy", perform::<Of<iam::GetUserPolicy>>),
    reads(AwsService::Iam, "iam:ListUserPolicies", perform::<Of<iam::ListUserPolicies>>),
    changes(AwsService::Iam, "iam:DeleteUserPolicy", perform::<Of<iam::DeleteUserPolicy>>),
    changes(AwsService::Iam, "iam:CreateGroup", perform::<Of<iam::CreateGroup>>),
    reads(AwsService::Iam, "iam:GetGroup", perform::<Of<iam::GetGroup>>),
    reads(AwsService::Iam, "iam:ListGroups", perform::<Of<iam::ListGroups>>),
    changes(AwsService::Iam, "iam:DeleteGroup", perform::<Of<iam::DeleteGroup>>),
    changes(AwsService::Iam, "iam:AddUserToGroup", perform::<Of<iam::AddUserToGroup>>),
    changes(AwsService::Iam, "iam:RemoveUserFromGroup", perform::<Of<iam::RemoveUserFromGroup>>),
    reads(AwsService::Iam, "iam:ListGroupsForUser", perform::<Of<iam::ListGroupsForUser>>),
    changes(AwsService::Iam, "iam:PutGroupPolicy", perform::<Of<iam::PutGroupPolicy>>),
    reads(AwsService::Iam, "iam:GetGroupPolicy", perform::<Of<iam::GetGroupPolicy>>),
    reads(AwsService::Iam, "iam:ListGroupPolicies", perform::<Of<iam::ListGroupPolicies>>),
    changes(AwsService::Iam, "iam:DeleteGroupPolicy", perform::<Of<iam::DeleteGroupPolicy>>),
    reads(AwsService::CloudTrail, "cloudtrail:LookupEvents", perform::<cloudtrail::LookupEvents>),
    reads(AwsService::Ec2, "ec2:DescribeSubnets", perform::<ec2::DescribeSubnets>),
    reads(AwsService::Ec2, "ec2:DescribeVpcEndpoints", perform::<ec2::DescribeVpcEndpoints>),
    reads(AwsService::Kms, "kms:DescribeKey", perform::<kms::DescribeKey>),
];
