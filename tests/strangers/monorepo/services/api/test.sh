test -f buildspec.yaml && echo the api is fine
