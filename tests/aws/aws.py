"""Stands for AWS: moto's IAM, STS, EFS and instance metadata on two ports of the loopback, in the clear and by TLS.

aws.py CERTIFICATE KEY: makes what the tests need, tells of it in one line of JSON, and from then on wants every request
to be signed and permitted, which moto checks with botocore's code. Ends when its standard input does.
"""
import json
import sys
import threading
from urllib.request import Request, urlopen

import boto3
from moto.core.authorization import ActionAuthenticatorMixin
from moto.iam.access_control import IAMRequestBase
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

REGION = "us-east-1"

# moto takes the query of a GET for its body, so that it refuses even what AWS's own SDK has signed: there is none.
as_it_is = IAMRequestBase._create_aws_request


def mended(self):
    request = as_it_is(self)
    if self._method == "GET":
        request.data = self._body
    return request


IAMRequestBase._create_aws_request = mended

# And it wants the one action signed that AWS takes from whoever has a token of somebody it trusts.
check = ActionAuthenticatorMixin._authenticate_and_authorize_action


def check_unless_public(self, *arguments):
    if self._get_action() != "AssumeRoleWithWebIdentity":
        check(self, *arguments)


ActionAuthenticatorMixin._authenticate_and_authorize_action = check_unless_public


class Quiet(WSGIRequestHandler):
    def log(self, *_):
        pass


application = DomainDispatcherApplication(create_backend_app)


def serve(ssl_context=None):
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet, ssl_context=ssl_context)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


certificate, key = sys.argv[1:]
plain, tls = serve(), serve((certificate, key))


def client(service):
    return boto3.client(
        service, REGION, endpoint_url=f"http://127.0.0.1:{plain}", aws_access_key_id="x", aws_secret_access_key="y"
    )


iam, efs, ec2 = client("iam"), client("efs"), client("ec2")


def policy(*actions):
    statement = [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


def user(name, *actions):
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=policy(*actions))
    made = iam.create_access_key(UserName=name)["AccessKey"]
    return {"id": made["AccessKeyId"], "secret": made["SecretAccessKey"]}


def role(name, *actions):
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=policy(*actions))
    return made["Arn"]


vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
file_system = efs.create_file_system(CreationToken="t")["FileSystemId"]
targets = []
for number, zone in enumerate(["us-east-1a", "us-east-1b", "us-east-1c", "us-east-1d", "us-east-1e", "us-east-1f"]):
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.1.{number}.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
    target = efs.create_mount_target(FileSystemId=file_system, SubnetId=subnet)
    targets.append({"address": target["IpAddress"], "zone": target["AvailabilityZoneId"]})
facts = {
    "plain": plain,
    "tls": tls,
    "region": REGION,
    "file_system": file_system,
    "targets": targets,
    "user": user("mounter", "sts:AssumeRole", "elasticfilesystem:DescribeMountTargets"),
    "stranger": user("stranger", "s3:ListBuckets"),
    "role": role("fleet", "elasticfilesystem:DescribeMountTargets"),
}
# From the next request on.
reset = Request(f"http://127.0.0.1:{plain}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"})
urlopen(reset).read()
print(json.dumps(facts), flush=True)
sys.stdin.read()
