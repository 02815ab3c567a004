-- An error of the OpenAI service comes as a gRPC status, which the transcoder prints as google.rpc.Status. The service
-- sends the same error in OpenAI's shape as trailing metadata; that becomes the body.
-- Every other response leaves at the first test, unbuffered. A gRPC caller keeps status and metadata as they are.
function envoy_on_response(handle)
  local headers = handle:headers()
  local body = headers:get("x-chatmesh-openai-error")
  if body == nil or headers:get("content-type") ~= "application/json" then
    return
  end
  -- All of this before the body: waiting for it ends the life of `headers`. Envoy corrects content-length itself.
  headers:remove("x-chatmesh-openai-error")
  handle:body(true):setBytes(body)
end
