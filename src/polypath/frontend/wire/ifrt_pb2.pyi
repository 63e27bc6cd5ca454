from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Code(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OK: _ClassVar[Code]
    CANCELLED: _ClassVar[Code]
    UNKNOWN: _ClassVar[Code]
    INVALID_ARGUMENT: _ClassVar[Code]
    DEADLINE_EXCEEDED: _ClassVar[Code]
    NOT_FOUND: _ClassVar[Code]
    ALREADY_EXISTS: _ClassVar[Code]
    PERMISSION_DENIED: _ClassVar[Code]
    UNAUTHENTICATED: _ClassVar[Code]
    RESOURCE_EXHAUSTED: _ClassVar[Code]
    FAILED_PRECONDITION: _ClassVar[Code]
    ABORTED: _ClassVar[Code]
    OUT_OF_RANGE: _ClassVar[Code]
    UNIMPLEMENTED: _ClassVar[Code]
    INTERNAL: _ClassVar[Code]
    UNAVAILABLE: _ClassVar[Code]
    DATA_LOSS: _ClassVar[Code]

class ArrayCopySemantics(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ARRAY_COPY_SEMANTICS_UNSPECIFIED: _ClassVar[ArrayCopySemantics]
    ARRAY_COPY_SEMANTICS_ALWAYS_COPY: _ClassVar[ArrayCopySemantics]
    ARRAY_COPY_SEMANTICS_REUSE_INPUT: _ClassVar[ArrayCopySemantics]
    ARRAY_COPY_SEMANTICS_DONATE_INPUT: _ClassVar[ArrayCopySemantics]

class SingleDeviceShardSemantics(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SINGLE_DEVICE_SHARD_SEMANTICS_UNSPECIFIED: _ClassVar[SingleDeviceShardSemantics]
    SINGLE_DEVICE_SHARD_SEMANTICS_ADDRESSABLE_SHARDS: _ClassVar[SingleDeviceShardSemantics]
    SINGLE_DEVICE_SHARD_SEMANTICS_ALL_SHARDS: _ClassVar[SingleDeviceShardSemantics]
OK: Code
CANCELLED: Code
UNKNOWN: Code
INVALID_ARGUMENT: Code
DEADLINE_EXCEEDED: Code
NOT_FOUND: Code
ALREADY_EXISTS: Code
PERMISSION_DENIED: Code
UNAUTHENTICATED: Code
RESOURCE_EXHAUSTED: Code
FAILED_PRECONDITION: Code
ABORTED: Code
OUT_OF_RANGE: Code
UNIMPLEMENTED: Code
INTERNAL: Code
UNAVAILABLE: Code
DATA_LOSS: Code
ARRAY_COPY_SEMANTICS_UNSPECIFIED: ArrayCopySemantics
ARRAY_COPY_SEMANTICS_ALWAYS_COPY: ArrayCopySemantics
ARRAY_COPY_SEMANTICS_REUSE_INPUT: ArrayCopySemantics
ARRAY_COPY_SEMANTICS_DONATE_INPUT: ArrayCopySemantics
SINGLE_DEVICE_SHARD_SEMANTICS_UNSPECIFIED: SingleDeviceShardSemantics
SINGLE_DEVICE_SHARD_SEMANTICS_ADDRESSABLE_SHARDS: SingleDeviceShardSemantics
SINGLE_DEVICE_SHARD_SEMANTICS_ALL_SHARDS: SingleDeviceShardSemantics

class GrpcGetVersionRequest(_message.Message):
    __slots__ = ("min_version", "max_version")
    MIN_VERSION_FIELD_NUMBER: _ClassVar[int]
    MAX_VERSION_FIELD_NUMBER: _ClassVar[int]
    min_version: IfrtProxyVersion
    max_version: IfrtProxyVersion
    def __init__(self, min_version: _Optional[_Union[IfrtProxyVersion, _Mapping]] = ..., max_version: _Optional[_Union[IfrtProxyVersion, _Mapping]] = ...) -> None: ...

class GrpcGetVersionResponse(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: IfrtProxyVersion
    def __init__(self, version: _Optional[_Union[IfrtProxyVersion, _Mapping]] = ...) -> None: ...

class GrpcIfrtSessionMetadata(_message.Message):
    __slots__ = ("version", "initialization_data")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INITIALIZATION_DATA_FIELD_NUMBER: _ClassVar[int]
    version: IfrtProxyVersion
    initialization_data: AttributeMapProto
    def __init__(self, version: _Optional[_Union[IfrtProxyVersion, _Mapping]] = ..., initialization_data: _Optional[_Union[AttributeMapProto, _Mapping]] = ...) -> None: ...

class GrpcHostBufferStoreMetadata(_message.Message):
    __slots__ = ("session_id", "handle", "buffer_size")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    BUFFER_SIZE_FIELD_NUMBER: _ClassVar[int]
    session_id: int
    handle: int
    buffer_size: int
    def __init__(self, session_id: _Optional[int] = ..., handle: _Optional[int] = ..., buffer_size: _Optional[int] = ...) -> None: ...

class GrpcHostBufferStoreRequest(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class GrpcHostBufferStoreResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GrpcHostBufferReadFromDiskRequest(_message.Message):
    __slots__ = ("metadata",)
    METADATA_FIELD_NUMBER: _ClassVar[int]
    metadata: GrpcHostBufferStoreMetadata
    def __init__(self, metadata: _Optional[_Union[GrpcHostBufferStoreMetadata, _Mapping]] = ...) -> None: ...

class GrpcHostBufferReadFromDiskResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GrpcHostBufferLookupRequest(_message.Message):
    __slots__ = ("session_id", "handle")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    session_id: int
    handle: int
    def __init__(self, session_id: _Optional[int] = ..., handle: _Optional[int] = ...) -> None: ...

class GrpcHostBufferLookupResponse(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class GrpcHostBufferDeleteRequest(_message.Message):
    __slots__ = ("session_id", "handle")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    session_id: int
    handle: int
    def __init__(self, session_id: _Optional[int] = ..., handle: _Optional[int] = ...) -> None: ...

class GrpcHostBufferDeleteResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class IfrtProxyVersion(_message.Message):
    __slots__ = ("protocol_version", "ifrt_serdes_version_number")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    IFRT_SERDES_VERSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    ifrt_serdes_version_number: int
    def __init__(self, protocol_version: _Optional[int] = ..., ifrt_serdes_version_number: _Optional[int] = ...) -> None: ...

class IfrtRequest(_message.Message):
    __slots__ = ("request_metadata", "init_request", "check_future_request", "check_value_ready_request", "make_array_from_host_buffer_request", "make_arrays_from_host_buffer_shards_request", "make_error_arrays_request", "assemble_array_from_single_device_arrays_request", "remap_arrays_request", "bitcast_arrays_request", "reshard_arrays_request", "copy_to_host_buffer_request", "disassemble_into_single_device_arrays_request", "delete_array_request", "copy_arrays_request", "fully_replicated_shard_request", "is_array_deleted_request", "destruct_array_request", "compile_request", "loaded_executable_metadata_request", "loaded_executable_execute_request", "loaded_executable_fetch_execute_result_request", "loaded_executable_cost_analysis_request", "loaded_executable_human_readable_program_text_request", "loaded_executable_delete_request", "loaded_executable_is_deleted_request", "loaded_executable_destruct_request", "loaded_executable_mpmd_metadata_request", "loaded_executable_mpmd_cost_analysis_request", "loaded_host_callback_poll_request", "loaded_host_callback_return_request", "get_default_device_assignment_request", "get_default_layout_request")
    REQUEST_METADATA_FIELD_NUMBER: _ClassVar[int]
    INIT_REQUEST_FIELD_NUMBER: _ClassVar[int]
    CHECK_FUTURE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    CHECK_VALUE_READY_REQUEST_FIELD_NUMBER: _ClassVar[int]
    MAKE_ARRAY_FROM_HOST_BUFFER_REQUEST_FIELD_NUMBER: _ClassVar[int]
    MAKE_ARRAYS_FROM_HOST_BUFFER_SHARDS_REQUEST_FIELD_NUMBER: _ClassVar[int]
    MAKE_ERROR_ARRAYS_REQUEST_FIELD_NUMBER: _ClassVar[int]
    ASSEMBLE_ARRAY_FROM_SINGLE_DEVICE_ARRAYS_REQUEST_FIELD_NUMBER: _ClassVar[int]
    REMAP_ARRAYS_REQUEST_FIELD_NUMBER: _ClassVar[int]
    BITCAST_ARRAYS_REQUEST_FIELD_NUMBER: _ClassVar[int]
    RESHARD_ARRAYS_REQUEST_FIELD_NUMBER: _ClassVar[int]
    COPY_TO_HOST_BUFFER_REQUEST_FIELD_NUMBER: _ClassVar[int]
    DISASSEMBLE_INTO_SINGLE_DEVICE_ARRAYS_REQUEST_FIELD_NUMBER: _ClassVar[int]
    DELETE_ARRAY_REQUEST_FIELD_NUMBER: _ClassVar[int]
    COPY_ARRAYS_REQUEST_FIELD_NUMBER: _ClassVar[int]
    FULLY_REPLICATED_SHARD_REQUEST_FIELD_NUMBER: _ClassVar[int]
    IS_ARRAY_DELETED_REQUEST_FIELD_NUMBER: _ClassVar[int]
    DESTRUCT_ARRAY_REQUEST_FIELD_NUMBER: _ClassVar[int]
    COMPILE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    LOADED_EXECUTABLE_METADATA_REQUEST_FIELD_NUMBER: _ClassVar[int]
    LOADED_EXECUTABLE_EXECUTE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    LOADED_EXECUTABLE_FETCH_EXECUTE_RESULT_REQUEST_FIELD_NUMBER: _ClassVar[int]
    LOADED_EXECUTABLE_COST_ANALYSIS_REQUEST_FIELD_NUMBER: _ClassVar[int]
    LOADED_EXECUTABLE_HUMAN_READABLE_PROGRAM_TEXT_REQUEST_FIELD_NUMBER: _ClassVar[int]
    LOADED_EXECUTABLE_DELETE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    LOADED_EXECUTABLE_IS_DELETED_REQUEST_FIELD_NUMBER: _ClassVar[int]
    LOADED_EXECUTABLE_DESTRUCT_REQUEST_FIELD_NUMBER: _ClassVar[int]
    LOADED_EXECUTABLE_MPMD_METADATA_REQUEST_FIELD_NUMBER: _ClassVar[int]
    LOADED_EXECUTABLE_MPMD_COST_ANALYSIS_REQUEST_FIELD_NUMBER: _ClassVar[int]
    LOADED_HOST_CALLBACK_POLL_REQUEST_FIELD_NUMBER: _ClassVar[int]
    LOADED_HOST_CALLBACK_RETURN_REQUEST_FIELD_NUMBER: _ClassVar[int]
    GET_DEFAULT_DEVICE_ASSIGNMENT_REQUEST_FIELD_NUMBER: _ClassVar[int]
    GET_DEFAULT_LAYOUT_REQUEST_FIELD_NUMBER: _ClassVar[int]
    request_metadata: RequestMetadata
    init_request: InitRequest
    check_future_request: CheckFutureRequest
    check_value_ready_request: CheckValueReadyRequest
    make_array_from_host_buffer_request: MakeArrayFromHostBufferRequest
    make_arrays_from_host_buffer_shards_request: MakeArraysFromHostBufferShardsRequest
    make_error_arrays_request: MakeErrorArraysRequest
    assemble_array_from_single_device_arrays_request: AssembleArrayFromSingleDeviceArraysRequest
    remap_arrays_request: RemapArraysRequest
    bitcast_arrays_request: BitcastArraysRequest
    reshard_arrays_request: ReshardArraysRequest
    copy_to_host_buffer_request: CopyToHostBufferRequest
    disassemble_into_single_device_arrays_request: DisassembleIntoSingleDeviceArraysRequest
    delete_array_request: DeleteArrayRequest
    copy_arrays_request: CopyArraysRequest
    fully_replicated_shard_request: FullyReplicatedShardRequest
    is_array_deleted_request: IsArrayDeletedRequest
    destruct_array_request: DestructArrayRequest
    compile_request: CompileRequest
    loaded_executable_metadata_request: LoadedExecutableMetadataRequest
    loaded_executable_execute_request: LoadedExecutableExecuteRequest
    loaded_executable_fetch_execute_result_request: LoadedExecutableFetchExecuteResultRequest
    loaded_executable_cost_analysis_request: LoadedExecutableCostAnalysisRequest
    loaded_executable_human_readable_program_text_request: LoadedExecutableHumanReadableProgramTextRequest
    loaded_executable_delete_request: LoadedExecutableDeleteRequest
    loaded_executable_is_deleted_request: LoadedExecutableIsDeletedRequest
    loaded_executable_destruct_request: LoadedExecutableDestructRequest
    loaded_executable_mpmd_metadata_request: LoadedExecutableMpmdMetadataRequest
    loaded_executable_mpmd_cost_analysis_request: LoadedExecutableMpmdCostAnalysisRequest
    loaded_host_callback_poll_request: LoadedHostCallbackPollRequest
    loaded_host_callback_return_request: LoadedHostCallbackReturnRequest
    get_default_device_assignment_request: GetDefaultDeviceAssignmentRequest
    get_default_layout_request: GetDefaultLayoutRequest
    def __init__(self, request_metadata: _Optional[_Union[RequestMetadata, _Mapping]] = ..., init_request: _Optional[_Union[InitRequest, _Mapping]] = ..., check_future_request: _Optional[_Union[CheckFutureRequest, _Mapping]] = ..., check_value_ready_request: _Optional[_Union[CheckValueReadyRequest, _Mapping]] = ..., make_array_from_host_buffer_request: _Optional[_Union[MakeArrayFromHostBufferRequest, _Mapping]] = ..., make_arrays_from_host_buffer_shards_request: _Optional[_Union[MakeArraysFromHostBufferShardsRequest, _Mapping]] = ..., make_error_arrays_request: _Optional[_Union[MakeErrorArraysRequest, _Mapping]] = ..., assemble_array_from_single_device_arrays_request: _Optional[_Union[AssembleArrayFromSingleDeviceArraysRequest, _Mapping]] = ..., remap_arrays_request: _Optional[_Union[RemapArraysRequest, _Mapping]] = ..., bitcast_arrays_request: _Optional[_Union[BitcastArraysRequest, _Mapping]] = ..., reshard_arrays_request: _Optional[_Union[ReshardArraysRequest, _Mapping]] = ..., copy_to_host_buffer_request: _Optional[_Union[CopyToHostBufferRequest, _Mapping]] = ..., disassemble_into_single_device_arrays_request: _Optional[_Union[DisassembleIntoSingleDeviceArraysRequest, _Mapping]] = ..., delete_array_request: _Optional[_Union[DeleteArrayRequest, _Mapping]] = ..., copy_arrays_request: _Optional[_Union[CopyArraysRequest, _Mapping]] = ..., fully_replicated_shard_request: _Optional[_Union[FullyReplicatedShardRequest, _Mapping]] = ..., is_array_deleted_request: _Optional[_Union[IsArrayDeletedRequest, _Mapping]] = ..., destruct_array_request: _Optional[_Union[DestructArrayRequest, _Mapping]] = ..., compile_request: _Optional[_Union[CompileRequest, _Mapping]] = ..., loaded_executable_metadata_request: _Optional[_Union[LoadedExecutableMetadataRequest, _Mapping]] = ..., loaded_executable_execute_request: _Optional[_Union[LoadedExecutableExecuteRequest, _Mapping]] = ..., loaded_executable_fetch_execute_result_request: _Optional[_Union[LoadedExecutableFetchExecuteResultRequest, _Mapping]] = ..., loaded_executable_cost_analysis_request: _Optional[_Union[LoadedExecutableCostAnalysisRequest, _Mapping]] = ..., loaded_executable_human_readable_program_text_request: _Optional[_Union[LoadedExecutableHumanReadableProgramTextRequest, _Mapping]] = ..., loaded_executable_delete_request: _Optional[_Union[LoadedExecutableDeleteRequest, _Mapping]] = ..., loaded_executable_is_deleted_request: _Optional[_Union[LoadedExecutableIsDeletedRequest, _Mapping]] = ..., loaded_executable_destruct_request: _Optional[_Union[LoadedExecutableDestructRequest, _Mapping]] = ..., loaded_executable_mpmd_metadata_request: _Optional[_Union[LoadedExecutableMpmdMetadataRequest, _Mapping]] = ..., loaded_executable_mpmd_cost_analysis_request: _Optional[_Union[LoadedExecutableMpmdCostAnalysisRequest, _Mapping]] = ..., loaded_host_callback_poll_request: _Optional[_Union[LoadedHostCallbackPollRequest, _Mapping]] = ..., loaded_host_callback_return_request: _Optional[_Union[LoadedHostCallbackReturnRequest, _Mapping]] = ..., get_default_device_assignment_request: _Optional[_Union[GetDefaultDeviceAssignmentRequest, _Mapping]] = ..., get_default_layout_request: _Optional[_Union[GetDefaultLayoutRequest, _Mapping]] = ...) -> None: ...

class IfrtResponse(_message.Message):
    __slots__ = ("response_metadata", "init_response", "check_future_response", "check_value_ready_response", "make_array_from_host_buffer_response", "make_arrays_from_host_buffer_shards_response", "make_error_arrays_response", "assemble_array_from_single_device_arrays_response", "remap_arrays_response", "bitcast_arrays_response", "reshard_arrays_response", "copy_to_host_buffer_response", "disassemble_into_single_device_arrays_response", "delete_array_response", "copy_arrays_response", "fully_replicated_shard_response", "is_array_deleted_response", "destruct_array_response", "compile_response", "loaded_executable_metadata_response", "loaded_executable_execute_response", "loaded_executable_fetch_execute_result_response", "loaded_executable_cost_analysis_response", "loaded_executable_human_readable_program_text_response", "loaded_executable_is_deleted_response", "loaded_executable_destruct_response", "get_default_device_assignment_response", "get_default_layout_response")
    RESPONSE_METADATA_FIELD_NUMBER: _ClassVar[int]
    INIT_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    CHECK_FUTURE_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    CHECK_VALUE_READY_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    MAKE_ARRAY_FROM_HOST_BUFFER_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    MAKE_ARRAYS_FROM_HOST_BUFFER_SHARDS_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    MAKE_ERROR_ARRAYS_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ASSEMBLE_ARRAY_FROM_SINGLE_DEVICE_ARRAYS_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    REMAP_ARRAYS_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    BITCAST_ARRAYS_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    RESHARD_ARRAYS_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    COPY_TO_HOST_BUFFER_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    DISASSEMBLE_INTO_SINGLE_DEVICE_ARRAYS_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    DELETE_ARRAY_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    COPY_ARRAYS_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    FULLY_REPLICATED_SHARD_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    IS_ARRAY_DELETED_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    DESTRUCT_ARRAY_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    COMPILE_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    LOADED_EXECUTABLE_METADATA_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    LOADED_EXECUTABLE_EXECUTE_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    LOADED_EXECUTABLE_FETCH_EXECUTE_RESULT_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    LOADED_EXECUTABLE_COST_ANALYSIS_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    LOADED_EXECUTABLE_HUMAN_READABLE_PROGRAM_TEXT_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    LOADED_EXECUTABLE_IS_DELETED_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    LOADED_EXECUTABLE_DESTRUCT_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    GET_DEFAULT_DEVICE_ASSIGNMENT_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    GET_DEFAULT_LAYOUT_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    response_metadata: ResponseMetadata
    init_response: InitResponse
    check_future_response: CheckFutureResponse
    check_value_ready_response: CheckValueReadyResponse
    make_array_from_host_buffer_response: MakeArrayFromHostBufferResponse
    make_arrays_from_host_buffer_shards_response: MakeArraysFromHostBufferShardsResponse
    make_error_arrays_response: MakeErrorArraysResponse
    assemble_array_from_single_device_arrays_response: AssembleArrayFromSingleDeviceArraysResponse
    remap_arrays_response: RemapArraysResponse
    bitcast_arrays_response: BitcastArraysResponse
    reshard_arrays_response: ReshardArraysResponse
    copy_to_host_buffer_response: CopyToHostBufferResponse
    disassemble_into_single_device_arrays_response: DisassembleIntoSingleDeviceArraysResponse
    delete_array_response: DeleteArrayResponse
    copy_arrays_response: CopyArraysResponse
    fully_replicated_shard_response: FullyReplicatedShardResponse
    is_array_deleted_response: IsArrayDeletedResponse
    destruct_array_response: DestructArrayResponse
    compile_response: CompileResponse
    loaded_executable_metadata_response: LoadedExecutableMetadataResponse
    loaded_executable_execute_response: LoadedExecutableExecuteResponse
    loaded_executable_fetch_execute_result_response: LoadedExecutableFetchExecuteResultResponse
    loaded_executable_cost_analysis_response: LoadedExecutableCostAnalysisResponse
    loaded_executable_human_readable_program_text_response: LoadedExecutableHumanReadableProgramTextResponse
    loaded_executable_is_deleted_response: LoadedExecutableIsDeletedResponse
    loaded_executable_destruct_response: LoadedExecutableDestructResponse
    get_default_device_assignment_response: GetDefaultDeviceAssignmentResponse
    get_default_layout_response: GetDefaultLayoutResponse
    def __init__(self, response_metadata: _Optional[_Union[ResponseMetadata, _Mapping]] = ..., init_response: _Optional[_Union[InitResponse, _Mapping]] = ..., check_future_response: _Optional[_Union[CheckFutureResponse, _Mapping]] = ..., check_value_ready_response: _Optional[_Union[CheckValueReadyResponse, _Mapping]] = ..., make_array_from_host_buffer_response: _Optional[_Union[MakeArrayFromHostBufferResponse, _Mapping]] = ..., make_arrays_from_host_buffer_shards_response: _Optional[_Union[MakeArraysFromHostBufferShardsResponse, _Mapping]] = ..., make_error_arrays_response: _Optional[_Union[MakeErrorArraysResponse, _Mapping]] = ..., assemble_array_from_single_device_arrays_response: _Optional[_Union[AssembleArrayFromSingleDeviceArraysResponse, _Mapping]] = ..., remap_arrays_response: _Optional[_Union[RemapArraysResponse, _Mapping]] = ..., bitcast_arrays_response: _Optional[_Union[BitcastArraysResponse, _Mapping]] = ..., reshard_arrays_response: _Optional[_Union[ReshardArraysResponse, _Mapping]] = ..., copy_to_host_buffer_response: _Optional[_Union[CopyToHostBufferResponse, _Mapping]] = ..., disassemble_into_single_device_arrays_response: _Optional[_Union[DisassembleIntoSingleDeviceArraysResponse, _Mapping]] = ..., delete_array_response: _Optional[_Union[DeleteArrayResponse, _Mapping]] = ..., copy_arrays_response: _Optional[_Union[CopyArraysResponse, _Mapping]] = ..., fully_replicated_shard_response: _Optional[_Union[FullyReplicatedShardResponse, _Mapping]] = ..., is_array_deleted_response: _Optional[_Union[IsArrayDeletedResponse, _Mapping]] = ..., destruct_array_response: _Optional[_Union[DestructArrayResponse, _Mapping]] = ..., compile_response: _Optional[_Union[CompileResponse, _Mapping]] = ..., loaded_executable_metadata_response: _Optional[_Union[LoadedExecutableMetadataResponse, _Mapping]] = ..., loaded_executable_execute_response: _Optional[_Union[LoadedExecutableExecuteResponse, _Mapping]] = ..., loaded_executable_fetch_execute_result_response: _Optional[_Union[LoadedExecutableFetchExecuteResultResponse, _Mapping]] = ..., loaded_executable_cost_analysis_response: _Optional[_Union[LoadedExecutableCostAnalysisResponse, _Mapping]] = ..., loaded_executable_human_readable_program_text_response: _Optional[_Union[LoadedExecutableHumanReadableProgramTextResponse, _Mapping]] = ..., loaded_executable_is_deleted_response: _Optional[_Union[LoadedExecutableIsDeletedResponse, _Mapping]] = ..., loaded_executable_destruct_response: _Optional[_Union[LoadedExecutableDestructResponse, _Mapping]] = ..., get_default_device_assignment_response: _Optional[_Union[GetDefaultDeviceAssignmentResponse, _Mapping]] = ..., get_default_layout_response: _Optional[_Union[GetDefaultLayoutResponse, _Mapping]] = ...) -> None: ...

class RequestMetadata(_message.Message):
    __slots__ = ("op_id", "user_context_id")
    OP_ID_FIELD_NUMBER: _ClassVar[int]
    USER_CONTEXT_ID_FIELD_NUMBER: _ClassVar[int]
    op_id: int
    user_context_id: int
    def __init__(self, op_id: _Optional[int] = ..., user_context_id: _Optional[int] = ...) -> None: ...

class ResponseMetadata(_message.Message):
    __slots__ = ("op_id", "status", "seq_num", "destroyed_user_context_ids")
    OP_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SEQ_NUM_FIELD_NUMBER: _ClassVar[int]
    DESTROYED_USER_CONTEXT_IDS_FIELD_NUMBER: _ClassVar[int]
    op_id: int
    status: StatusProto
    seq_num: int
    destroyed_user_context_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, op_id: _Optional[int] = ..., status: _Optional[_Union[StatusProto, _Mapping]] = ..., seq_num: _Optional[int] = ..., destroyed_user_context_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class InitRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class InitResponse(_message.Message):
    __slots__ = ("session_id", "platform_name", "platform_version", "platform_id", "process_index", "runtime_type", "all_devices", "primary_device_ids", "addressable_device_ids", "memories", "client_attributes")
    class Device(_message.Message):
        __slots__ = ("id", "local_device_id", "local_hardware_id", "platform_name", "device_kind", "default_memory_id", "memory_ids", "debug_string", "to_string", "attributes")
        ID_FIELD_NUMBER: _ClassVar[int]
        LOCAL_DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
        LOCAL_HARDWARE_ID_FIELD_NUMBER: _ClassVar[int]
        PLATFORM_NAME_FIELD_NUMBER: _ClassVar[int]
        DEVICE_KIND_FIELD_NUMBER: _ClassVar[int]
        DEFAULT_MEMORY_ID_FIELD_NUMBER: _ClassVar[int]
        MEMORY_IDS_FIELD_NUMBER: _ClassVar[int]
        DEBUG_STRING_FIELD_NUMBER: _ClassVar[int]
        TO_STRING_FIELD_NUMBER: _ClassVar[int]
        ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
        id: int
        local_device_id: int
        local_hardware_id: int
        platform_name: str
        device_kind: str
        default_memory_id: int
        memory_ids: _containers.RepeatedScalarFieldContainer[int]
        debug_string: str
        to_string: str
        attributes: AttributeMapProto
        def __init__(self, id: _Optional[int] = ..., local_device_id: _Optional[int] = ..., local_hardware_id: _Optional[int] = ..., platform_name: _Optional[str] = ..., device_kind: _Optional[str] = ..., default_memory_id: _Optional[int] = ..., memory_ids: _Optional[_Iterable[int]] = ..., debug_string: _Optional[str] = ..., to_string: _Optional[str] = ..., attributes: _Optional[_Union[AttributeMapProto, _Mapping]] = ...) -> None: ...
    class Memory(_message.Message):
        __slots__ = ("id", "memory_space_kind", "kind_id", "device_ids", "debug_string", "to_string")
        ID_FIELD_NUMBER: _ClassVar[int]
        MEMORY_SPACE_KIND_FIELD_NUMBER: _ClassVar[int]
        KIND_ID_FIELD_NUMBER: _ClassVar[int]
        DEVICE_IDS_FIELD_NUMBER: _ClassVar[int]
        DEBUG_STRING_FIELD_NUMBER: _ClassVar[int]
        TO_STRING_FIELD_NUMBER: _ClassVar[int]
        id: int
        memory_space_kind: str
        kind_id: int
        device_ids: _containers.RepeatedScalarFieldContainer[int]
        debug_string: str
        to_string: str
        def __init__(self, id: _Optional[int] = ..., memory_space_kind: _Optional[str] = ..., kind_id: _Optional[int] = ..., device_ids: _Optional[_Iterable[int]] = ..., debug_string: _Optional[str] = ..., to_string: _Optional[str] = ...) -> None: ...
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_NAME_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_VERSION_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_ID_FIELD_NUMBER: _ClassVar[int]
    PROCESS_INDEX_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_TYPE_FIELD_NUMBER: _ClassVar[int]
    ALL_DEVICES_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_DEVICE_IDS_FIELD_NUMBER: _ClassVar[int]
    ADDRESSABLE_DEVICE_IDS_FIELD_NUMBER: _ClassVar[int]
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    session_id: int
    platform_name: str
    platform_version: str
    platform_id: int
    process_index: int
    runtime_type: str
    all_devices: _containers.RepeatedCompositeFieldContainer[InitResponse.Device]
    primary_device_ids: _containers.RepeatedScalarFieldContainer[int]
    addressable_device_ids: _containers.RepeatedScalarFieldContainer[int]
    memories: _containers.RepeatedCompositeFieldContainer[InitResponse.Memory]
    client_attributes: AttributeMapProto
    def __init__(self, session_id: _Optional[int] = ..., platform_name: _Optional[str] = ..., platform_version: _Optional[str] = ..., platform_id: _Optional[int] = ..., process_index: _Optional[int] = ..., runtime_type: _Optional[str] = ..., all_devices: _Optional[_Iterable[_Union[InitResponse.Device, _Mapping]]] = ..., primary_device_ids: _Optional[_Iterable[int]] = ..., addressable_device_ids: _Optional[_Iterable[int]] = ..., memories: _Optional[_Iterable[_Union[InitResponse.Memory, _Mapping]]] = ..., client_attributes: _Optional[_Union[AttributeMapProto, _Mapping]] = ...) -> None: ...

class CheckFutureRequest(_message.Message):
    __slots__ = ("future_handle",)
    FUTURE_HANDLE_FIELD_NUMBER: _ClassVar[int]
    future_handle: int
    def __init__(self, future_handle: _Optional[int] = ...) -> None: ...

class CheckFutureResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CheckValueReadyRequest(_message.Message):
    __slots__ = ("value_handles",)
    VALUE_HANDLES_FIELD_NUMBER: _ClassVar[int]
    value_handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, value_handles: _Optional[_Iterable[int]] = ...) -> None: ...

class CheckValueReadyResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MakeArrayFromHostBufferRequest(_message.Message):
    __slots__ = ("dtype", "shape", "sharding", "layout", "host_buffer_handle", "byte_strides", "array_handle")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SHARDING_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    HOST_BUFFER_HANDLE_FIELD_NUMBER: _ClassVar[int]
    BYTE_STRIDES_FIELD_NUMBER: _ClassVar[int]
    ARRAY_HANDLE_FIELD_NUMBER: _ClassVar[int]
    dtype: DTypeProto
    shape: ShapeProto
    sharding: ShardingProto
    layout: LayoutProto
    host_buffer_handle: int
    byte_strides: ByteStrides
    array_handle: int
    def __init__(self, dtype: _Optional[_Union[DTypeProto, _Mapping]] = ..., shape: _Optional[_Union[ShapeProto, _Mapping]] = ..., sharding: _Optional[_Union[ShardingProto, _Mapping]] = ..., layout: _Optional[_Union[LayoutProto, _Mapping]] = ..., host_buffer_handle: _Optional[int] = ..., byte_strides: _Optional[_Union[ByteStrides, _Mapping]] = ..., array_handle: _Optional[int] = ...) -> None: ...

class MakeArrayFromHostBufferResponse(_message.Message):
    __slots__ = ("array_handle",)
    ARRAY_HANDLE_FIELD_NUMBER: _ClassVar[int]
    array_handle: int
    def __init__(self, array_handle: _Optional[int] = ...) -> None: ...

class MakeArraysFromHostBufferShardsRequest(_message.Message):
    __slots__ = ("specs", "array_handles")
    class HostBuffer(_message.Message):
        __slots__ = ("dtype", "shape", "host_buffer_handle", "byte_strides")
        DTYPE_FIELD_NUMBER: _ClassVar[int]
        SHAPE_FIELD_NUMBER: _ClassVar[int]
        HOST_BUFFER_HANDLE_FIELD_NUMBER: _ClassVar[int]
        BYTE_STRIDES_FIELD_NUMBER: _ClassVar[int]
        dtype: DTypeProto
        shape: ShapeProto
        host_buffer_handle: int
        byte_strides: ByteStrides
        def __init__(self, dtype: _Optional[_Union[DTypeProto, _Mapping]] = ..., shape: _Optional[_Union[ShapeProto, _Mapping]] = ..., host_buffer_handle: _Optional[int] = ..., byte_strides: _Optional[_Union[ByteStrides, _Mapping]] = ...) -> None: ...
    class ShardIndices(_message.Message):
        __slots__ = ("indices",)
        INDICES_FIELD_NUMBER: _ClassVar[int]
        indices: _containers.RepeatedScalarFieldContainer[int]
        def __init__(self, indices: _Optional[_Iterable[int]] = ...) -> None: ...
    class MakeArraysFromHostBufferShardsSpec(_message.Message):
        __slots__ = ("addressable_shard_indices", "host_buffers", "array_spec")
        ADDRESSABLE_SHARD_INDICES_FIELD_NUMBER: _ClassVar[int]
        HOST_BUFFERS_FIELD_NUMBER: _ClassVar[int]
        ARRAY_SPEC_FIELD_NUMBER: _ClassVar[int]
        addressable_shard_indices: _containers.RepeatedCompositeFieldContainer[MakeArraysFromHostBufferShardsRequest.ShardIndices]
        host_buffers: _containers.RepeatedCompositeFieldContainer[MakeArraysFromHostBufferShardsRequest.HostBuffer]
        array_spec: ArraySpecProto
        def __init__(self, addressable_shard_indices: _Optional[_Iterable[_Union[MakeArraysFromHostBufferShardsRequest.ShardIndices, _Mapping]]] = ..., host_buffers: _Optional[_Iterable[_Union[MakeArraysFromHostBufferShardsRequest.HostBuffer, _Mapping]]] = ..., array_spec: _Optional[_Union[ArraySpecProto, _Mapping]] = ...) -> None: ...
    SPECS_FIELD_NUMBER: _ClassVar[int]
    ARRAY_HANDLES_FIELD_NUMBER: _ClassVar[int]
    specs: _containers.RepeatedCompositeFieldContainer[MakeArraysFromHostBufferShardsRequest.MakeArraysFromHostBufferShardsSpec]
    array_handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, specs: _Optional[_Iterable[_Union[MakeArraysFromHostBufferShardsRequest.MakeArraysFromHostBufferShardsSpec, _Mapping]]] = ..., array_handles: _Optional[_Iterable[int]] = ...) -> None: ...

class MakeArraysFromHostBufferShardsResponse(_message.Message):
    __slots__ = ("array_handles",)
    ARRAY_HANDLES_FIELD_NUMBER: _ClassVar[int]
    array_handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, array_handles: _Optional[_Iterable[int]] = ...) -> None: ...

class MakeErrorArraysRequest(_message.Message):
    __slots__ = ("error", "array_specs", "array_handles")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ARRAY_SPECS_FIELD_NUMBER: _ClassVar[int]
    ARRAY_HANDLES_FIELD_NUMBER: _ClassVar[int]
    error: StatusProto
    array_specs: _containers.RepeatedCompositeFieldContainer[ArraySpecProto]
    array_handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, error: _Optional[_Union[StatusProto, _Mapping]] = ..., array_specs: _Optional[_Iterable[_Union[ArraySpecProto, _Mapping]]] = ..., array_handles: _Optional[_Iterable[int]] = ...) -> None: ...

class MakeErrorArraysResponse(_message.Message):
    __slots__ = ("array_handles",)
    ARRAY_HANDLES_FIELD_NUMBER: _ClassVar[int]
    array_handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, array_handles: _Optional[_Iterable[int]] = ...) -> None: ...

class AssembleArrayFromSingleDeviceArraysRequest(_message.Message):
    __slots__ = ("shape", "sharding", "single_device_array_handles", "copy_semantics", "single_device_shard_semantics", "result_handle", "dtype")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SHARDING_FIELD_NUMBER: _ClassVar[int]
    SINGLE_DEVICE_ARRAY_HANDLES_FIELD_NUMBER: _ClassVar[int]
    COPY_SEMANTICS_FIELD_NUMBER: _ClassVar[int]
    SINGLE_DEVICE_SHARD_SEMANTICS_FIELD_NUMBER: _ClassVar[int]
    RESULT_HANDLE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    shape: ShapeProto
    sharding: ShardingProto
    single_device_array_handles: _containers.RepeatedScalarFieldContainer[int]
    copy_semantics: ArrayCopySemantics
    single_device_shard_semantics: SingleDeviceShardSemantics
    result_handle: int
    dtype: DTypeProto
    def __init__(self, shape: _Optional[_Union[ShapeProto, _Mapping]] = ..., sharding: _Optional[_Union[ShardingProto, _Mapping]] = ..., single_device_array_handles: _Optional[_Iterable[int]] = ..., copy_semantics: _Optional[_Union[ArrayCopySemantics, str]] = ..., single_device_shard_semantics: _Optional[_Union[SingleDeviceShardSemantics, str]] = ..., result_handle: _Optional[int] = ..., dtype: _Optional[_Union[DTypeProto, _Mapping]] = ...) -> None: ...

class AssembleArrayFromSingleDeviceArraysResponse(_message.Message):
    __slots__ = ("array_handle",)
    ARRAY_HANDLE_FIELD_NUMBER: _ClassVar[int]
    array_handle: int
    def __init__(self, array_handle: _Optional[int] = ...) -> None: ...

class RemapArraysRequest(_message.Message):
    __slots__ = ("plan", "array_handles", "copy_semantics", "result_handles")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    ARRAY_HANDLES_FIELD_NUMBER: _ClassVar[int]
    COPY_SEMANTICS_FIELD_NUMBER: _ClassVar[int]
    RESULT_HANDLES_FIELD_NUMBER: _ClassVar[int]
    plan: RemapPlanProto
    array_handles: _containers.RepeatedScalarFieldContainer[int]
    copy_semantics: ArrayCopySemantics
    result_handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, plan: _Optional[_Union[RemapPlanProto, _Mapping]] = ..., array_handles: _Optional[_Iterable[int]] = ..., copy_semantics: _Optional[_Union[ArrayCopySemantics, str]] = ..., result_handles: _Optional[_Iterable[int]] = ...) -> None: ...

class RemapArraysResponse(_message.Message):
    __slots__ = ("array_handles",)
    ARRAY_HANDLES_FIELD_NUMBER: _ClassVar[int]
    array_handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, array_handles: _Optional[_Iterable[int]] = ...) -> None: ...

class BitcastArraysRequest(_message.Message):
    __slots__ = ("array_handles", "array_specs", "copy_semantics", "result_handles")
    ARRAY_HANDLES_FIELD_NUMBER: _ClassVar[int]
    ARRAY_SPECS_FIELD_NUMBER: _ClassVar[int]
    COPY_SEMANTICS_FIELD_NUMBER: _ClassVar[int]
    RESULT_HANDLES_FIELD_NUMBER: _ClassVar[int]
    array_handles: _containers.RepeatedScalarFieldContainer[int]
    array_specs: _containers.RepeatedCompositeFieldContainer[ArraySpecProto]
    copy_semantics: ArrayCopySemantics
    result_handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, array_handles: _Optional[_Iterable[int]] = ..., array_specs: _Optional[_Iterable[_Union[ArraySpecProto, _Mapping]]] = ..., copy_semantics: _Optional[_Union[ArrayCopySemantics, str]] = ..., result_handles: _Optional[_Iterable[int]] = ...) -> None: ...

class BitcastArraysResponse(_message.Message):
    __slots__ = ("array_handles",)
    ARRAY_HANDLES_FIELD_NUMBER: _ClassVar[int]
    array_handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, array_handles: _Optional[_Iterable[int]] = ...) -> None: ...

class ReshardArraysRequest(_message.Message):
    __slots__ = ("array_handles", "array_specs", "copy_semantics", "result_handles")
    ARRAY_HANDLES_FIELD_NUMBER: _ClassVar[int]
    ARRAY_SPECS_FIELD_NUMBER: _ClassVar[int]
    COPY_SEMANTICS_FIELD_NUMBER: _ClassVar[int]
    RESULT_HANDLES_FIELD_NUMBER: _ClassVar[int]
    array_handles: _containers.RepeatedScalarFieldContainer[int]
    array_specs: _containers.RepeatedCompositeFieldContainer[ArraySpecProto]
    copy_semantics: ArrayCopySemantics
    result_handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, array_handles: _Optional[_Iterable[int]] = ..., array_specs: _Optional[_Iterable[_Union[ArraySpecProto, _Mapping]]] = ..., copy_semantics: _Optional[_Union[ArrayCopySemantics, str]] = ..., result_handles: _Optional[_Iterable[int]] = ...) -> None: ...

class ReshardArraysResponse(_message.Message):
    __slots__ = ("array_handles",)
    ARRAY_HANDLES_FIELD_NUMBER: _ClassVar[int]
    array_handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, array_handles: _Optional[_Iterable[int]] = ...) -> None: ...

class CopyToHostBufferRequest(_message.Message):
    __slots__ = ("array_handle", "byte_strides", "host_buffer_handle")
    ARRAY_HANDLE_FIELD_NUMBER: _ClassVar[int]
    BYTE_STRIDES_FIELD_NUMBER: _ClassVar[int]
    HOST_BUFFER_HANDLE_FIELD_NUMBER: _ClassVar[int]
    array_handle: int
    byte_strides: ByteStrides
    host_buffer_handle: int
    def __init__(self, array_handle: _Optional[int] = ..., byte_strides: _Optional[_Union[ByteStrides, _Mapping]] = ..., host_buffer_handle: _Optional[int] = ...) -> None: ...

class CopyToHostBufferResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DisassembleIntoSingleDeviceArraysRequest(_message.Message):
    __slots__ = ("array_handle", "copy_semantics", "single_device_shard_semantics", "result_handles")
    ARRAY_HANDLE_FIELD_NUMBER: _ClassVar[int]
    COPY_SEMANTICS_FIELD_NUMBER: _ClassVar[int]
    SINGLE_DEVICE_SHARD_SEMANTICS_FIELD_NUMBER: _ClassVar[int]
    RESULT_HANDLES_FIELD_NUMBER: _ClassVar[int]
    array_handle: int
    copy_semantics: ArrayCopySemantics
    single_device_shard_semantics: SingleDeviceShardSemantics
    result_handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, array_handle: _Optional[int] = ..., copy_semantics: _Optional[_Union[ArrayCopySemantics, str]] = ..., single_device_shard_semantics: _Optional[_Union[SingleDeviceShardSemantics, str]] = ..., result_handles: _Optional[_Iterable[int]] = ...) -> None: ...

class DisassembleIntoSingleDeviceArraysResponse(_message.Message):
    __slots__ = ("array_handles",)
    ARRAY_HANDLES_FIELD_NUMBER: _ClassVar[int]
    array_handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, array_handles: _Optional[_Iterable[int]] = ...) -> None: ...

class CopyArraysRequest(_message.Message):
    __slots__ = ("array_handles", "device_ids", "memory_kind", "copy_semantics", "result_handles")
    ARRAY_HANDLES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_IDS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_KIND_FIELD_NUMBER: _ClassVar[int]
    COPY_SEMANTICS_FIELD_NUMBER: _ClassVar[int]
    RESULT_HANDLES_FIELD_NUMBER: _ClassVar[int]
    array_handles: _containers.RepeatedScalarFieldContainer[int]
    device_ids: _containers.RepeatedScalarFieldContainer[int]
    memory_kind: str
    copy_semantics: ArrayCopySemantics
    result_handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, array_handles: _Optional[_Iterable[int]] = ..., device_ids: _Optional[_Iterable[int]] = ..., memory_kind: _Optional[str] = ..., copy_semantics: _Optional[_Union[ArrayCopySemantics, str]] = ..., result_handles: _Optional[_Iterable[int]] = ...) -> None: ...

class CopyArraysResponse(_message.Message):
    __slots__ = ("array_handles",)
    ARRAY_HANDLES_FIELD_NUMBER: _ClassVar[int]
    array_handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, array_handles: _Optional[_Iterable[int]] = ...) -> None: ...

class FullyReplicatedShardRequest(_message.Message):
    __slots__ = ("array_handle", "copy_semantics", "result_handle")
    ARRAY_HANDLE_FIELD_NUMBER: _ClassVar[int]
    COPY_SEMANTICS_FIELD_NUMBER: _ClassVar[int]
    RESULT_HANDLE_FIELD_NUMBER: _ClassVar[int]
    array_handle: int
    copy_semantics: ArrayCopySemantics
    result_handle: int
    def __init__(self, array_handle: _Optional[int] = ..., copy_semantics: _Optional[_Union[ArrayCopySemantics, str]] = ..., result_handle: _Optional[int] = ...) -> None: ...

class FullyReplicatedShardResponse(_message.Message):
    __slots__ = ("array_handle",)
    ARRAY_HANDLE_FIELD_NUMBER: _ClassVar[int]
    array_handle: int
    def __init__(self, array_handle: _Optional[int] = ...) -> None: ...

class DeleteArrayRequest(_message.Message):
    __slots__ = ("array_handle",)
    ARRAY_HANDLE_FIELD_NUMBER: _ClassVar[int]
    array_handle: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, array_handle: _Optional[_Iterable[int]] = ...) -> None: ...

class DeleteArrayResponse(_message.Message):
    __slots__ = ("deletion_future_handle",)
    DELETION_FUTURE_HANDLE_FIELD_NUMBER: _ClassVar[int]
    deletion_future_handle: int
    def __init__(self, deletion_future_handle: _Optional[int] = ...) -> None: ...

class IsArrayDeletedRequest(_message.Message):
    __slots__ = ("array_handle",)
    ARRAY_HANDLE_FIELD_NUMBER: _ClassVar[int]
    array_handle: int
    def __init__(self, array_handle: _Optional[int] = ...) -> None: ...

class IsArrayDeletedResponse(_message.Message):
    __slots__ = ("deleted",)
    DELETED_FIELD_NUMBER: _ClassVar[int]
    deleted: bool
    def __init__(self, deleted: _Optional[bool] = ...) -> None: ...

class DestructArrayRequest(_message.Message):
    __slots__ = ("array_handle",)
    ARRAY_HANDLE_FIELD_NUMBER: _ClassVar[int]
    array_handle: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, array_handle: _Optional[_Iterable[int]] = ...) -> None: ...

class DestructArrayResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CompileRequest(_message.Message):
    __slots__ = ("program", "compile_options", "host_callbacks")
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    COMPILE_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    HOST_CALLBACKS_FIELD_NUMBER: _ClassVar[int]
    program: Serialized
    compile_options: Serialized
    host_callbacks: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, program: _Optional[_Union[Serialized, _Mapping]] = ..., compile_options: _Optional[_Union[Serialized, _Mapping]] = ..., host_callbacks: _Optional[_Iterable[bytes]] = ...) -> None: ...

class CompileResponse(_message.Message):
    __slots__ = ("loaded_executable_handle", "name", "num_devices", "device_ids", "addressable_device_ids", "fingerprint_value", "fingerprint_error", "ready_future_handle")
    LOADED_EXECUTABLE_HANDLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NUM_DEVICES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_IDS_FIELD_NUMBER: _ClassVar[int]
    ADDRESSABLE_DEVICE_IDS_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_VALUE_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_ERROR_FIELD_NUMBER: _ClassVar[int]
    READY_FUTURE_HANDLE_FIELD_NUMBER: _ClassVar[int]
    loaded_executable_handle: int
    name: str
    num_devices: int
    device_ids: _containers.RepeatedScalarFieldContainer[int]
    addressable_device_ids: _containers.RepeatedScalarFieldContainer[int]
    fingerprint_value: bytes
    fingerprint_error: StatusProto
    ready_future_handle: int
    def __init__(self, loaded_executable_handle: _Optional[int] = ..., name: _Optional[str] = ..., num_devices: _Optional[int] = ..., device_ids: _Optional[_Iterable[int]] = ..., addressable_device_ids: _Optional[_Iterable[int]] = ..., fingerprint_value: _Optional[bytes] = ..., fingerprint_error: _Optional[_Union[StatusProto, _Mapping]] = ..., ready_future_handle: _Optional[int] = ...) -> None: ...

class LoadedExecutableMetadataRequest(_message.Message):
    __slots__ = ("loaded_executable_handle",)
    LOADED_EXECUTABLE_HANDLE_FIELD_NUMBER: _ClassVar[int]
    loaded_executable_handle: int
    def __init__(self, loaded_executable_handle: _Optional[int] = ...) -> None: ...

class LoadedExecutableMetadataResponse(_message.Message):
    __slots__ = ("parameter_shardings", "output_shardings", "parameter_layouts_list", "parameter_layouts_error", "output_layouts_list", "output_layouts_error", "output_memory_kinds", "donated_input_indices", "donated_input_indices_error", "compiled_memory_stats", "compiled_memory_stats_error", "size_of_generated_code_in_bytes")
    class ShardingList(_message.Message):
        __slots__ = ("shardings",)
        SHARDINGS_FIELD_NUMBER: _ClassVar[int]
        shardings: _containers.RepeatedScalarFieldContainer[bytes]
        def __init__(self, shardings: _Optional[_Iterable[bytes]] = ...) -> None: ...
    class LayoutList(_message.Message):
        __slots__ = ("layouts",)
        LAYOUTS_FIELD_NUMBER: _ClassVar[int]
        layouts: _containers.RepeatedScalarFieldContainer[bytes]
        def __init__(self, layouts: _Optional[_Iterable[bytes]] = ...) -> None: ...
    class MemoryKindList(_message.Message):
        __slots__ = ("memory_kinds",)
        MEMORY_KINDS_FIELD_NUMBER: _ClassVar[int]
        memory_kinds: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, memory_kinds: _Optional[_Iterable[str]] = ...) -> None: ...
    class OutputMemoryKind(_message.Message):
        __slots__ = ("status", "memory_kind_lists")
        STATUS_FIELD_NUMBER: _ClassVar[int]
        MEMORY_KIND_LISTS_FIELD_NUMBER: _ClassVar[int]
        status: StatusProto
        memory_kind_lists: _containers.RepeatedCompositeFieldContainer[LoadedExecutableMetadataResponse.MemoryKindList]
        def __init__(self, status: _Optional[_Union[StatusProto, _Mapping]] = ..., memory_kind_lists: _Optional[_Iterable[_Union[LoadedExecutableMetadataResponse.MemoryKindList, _Mapping]]] = ...) -> None: ...
    class DonatedInputIndices(_message.Message):
        __slots__ = ("donated_input_indices",)
        DONATED_INPUT_INDICES_FIELD_NUMBER: _ClassVar[int]
        donated_input_indices: _containers.RepeatedScalarFieldContainer[int]
        def __init__(self, donated_input_indices: _Optional[_Iterable[int]] = ...) -> None: ...
    PARAMETER_SHARDINGS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SHARDINGS_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_LAYOUTS_LIST_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_LAYOUTS_ERROR_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_LAYOUTS_LIST_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_LAYOUTS_ERROR_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_MEMORY_KINDS_FIELD_NUMBER: _ClassVar[int]
    DONATED_INPUT_INDICES_FIELD_NUMBER: _ClassVar[int]
    DONATED_INPUT_INDICES_ERROR_FIELD_NUMBER: _ClassVar[int]
    COMPILED_MEMORY_STATS_FIELD_NUMBER: _ClassVar[int]
    COMPILED_MEMORY_STATS_ERROR_FIELD_NUMBER: _ClassVar[int]
    SIZE_OF_GENERATED_CODE_IN_BYTES_FIELD_NUMBER: _ClassVar[int]
    parameter_shardings: LoadedExecutableMetadataResponse.ShardingList
    output_shardings: LoadedExecutableMetadataResponse.ShardingList
    parameter_layouts_list: LoadedExecutableMetadataResponse.LayoutList
    parameter_layouts_error: StatusProto
    output_layouts_list: LoadedExecutableMetadataResponse.LayoutList
    output_layouts_error: StatusProto
    output_memory_kinds: LoadedExecutableMetadataResponse.OutputMemoryKind
    donated_input_indices: LoadedExecutableMetadataResponse.DonatedInputIndices
    donated_input_indices_error: StatusProto
    compiled_memory_stats: bytes
    compiled_memory_stats_error: StatusProto
    size_of_generated_code_in_bytes: int
    def __init__(self, parameter_shardings: _Optional[_Union[LoadedExecutableMetadataResponse.ShardingList, _Mapping]] = ..., output_shardings: _Optional[_Union[LoadedExecutableMetadataResponse.ShardingList, _Mapping]] = ..., parameter_layouts_list: _Optional[_Union[LoadedExecutableMetadataResponse.LayoutList, _Mapping]] = ..., parameter_layouts_error: _Optional[_Union[StatusProto, _Mapping]] = ..., output_layouts_list: _Optional[_Union[LoadedExecutableMetadataResponse.LayoutList, _Mapping]] = ..., output_layouts_error: _Optional[_Union[StatusProto, _Mapping]] = ..., output_memory_kinds: _Optional[_Union[LoadedExecutableMetadataResponse.OutputMemoryKind, _Mapping]] = ..., donated_input_indices: _Optional[_Union[LoadedExecutableMetadataResponse.DonatedInputIndices, _Mapping]] = ..., donated_input_indices_error: _Optional[_Union[StatusProto, _Mapping]] = ..., compiled_memory_stats: _Optional[bytes] = ..., compiled_memory_stats_error: _Optional[_Union[StatusProto, _Mapping]] = ..., size_of_generated_code_in_bytes: _Optional[int] = ...) -> None: ...

class LoadedExecutableCostAnalysisRequest(_message.Message):
    __slots__ = ("loaded_executable_handle",)
    LOADED_EXECUTABLE_HANDLE_FIELD_NUMBER: _ClassVar[int]
    loaded_executable_handle: int
    def __init__(self, loaded_executable_handle: _Optional[int] = ...) -> None: ...

class LoadedExecutableCostAnalysisResponse(_message.Message):
    __slots__ = ("status", "attributes")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    status: StatusProto
    attributes: AttributeMapProto
    def __init__(self, status: _Optional[_Union[StatusProto, _Mapping]] = ..., attributes: _Optional[_Union[AttributeMapProto, _Mapping]] = ...) -> None: ...

class LoadedExecutableHumanReadableProgramTextRequest(_message.Message):
    __slots__ = ("loaded_executable_handle",)
    LOADED_EXECUTABLE_HANDLE_FIELD_NUMBER: _ClassVar[int]
    loaded_executable_handle: int
    def __init__(self, loaded_executable_handle: _Optional[int] = ...) -> None: ...

class LoadedExecutableHumanReadableProgramTextResponse(_message.Message):
    __slots__ = ("status", "human_readable_program_text")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    HUMAN_READABLE_PROGRAM_TEXT_FIELD_NUMBER: _ClassVar[int]
    status: StatusProto
    human_readable_program_text: str
    def __init__(self, status: _Optional[_Union[StatusProto, _Mapping]] = ..., human_readable_program_text: _Optional[str] = ...) -> None: ...

class LoadedExecutableExecuteRequest(_message.Message):
    __slots__ = ("loaded_executable_handle", "args_handles", "execute_options", "device_ids", "result_array_handle", "result_status_handle")
    LOADED_EXECUTABLE_HANDLE_FIELD_NUMBER: _ClassVar[int]
    ARGS_HANDLES_FIELD_NUMBER: _ClassVar[int]
    EXECUTE_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_IDS_FIELD_NUMBER: _ClassVar[int]
    RESULT_ARRAY_HANDLE_FIELD_NUMBER: _ClassVar[int]
    RESULT_STATUS_HANDLE_FIELD_NUMBER: _ClassVar[int]
    loaded_executable_handle: int
    args_handles: _containers.RepeatedScalarFieldContainer[int]
    execute_options: ExecuteOptionsProto
    device_ids: _containers.RepeatedScalarFieldContainer[int]
    result_array_handle: _containers.RepeatedScalarFieldContainer[int]
    result_status_handle: int
    def __init__(self, loaded_executable_handle: _Optional[int] = ..., args_handles: _Optional[_Iterable[int]] = ..., execute_options: _Optional[_Union[ExecuteOptionsProto, _Mapping]] = ..., device_ids: _Optional[_Iterable[int]] = ..., result_array_handle: _Optional[_Iterable[int]] = ..., result_status_handle: _Optional[int] = ...) -> None: ...

class LoadedExecutableExecuteResponse(_message.Message):
    __slots__ = ("status_handle", "outputs")
    class Output(_message.Message):
        __slots__ = ("dtype", "shape", "sharding", "array_handle")
        DTYPE_FIELD_NUMBER: _ClassVar[int]
        SHAPE_FIELD_NUMBER: _ClassVar[int]
        SHARDING_FIELD_NUMBER: _ClassVar[int]
        ARRAY_HANDLE_FIELD_NUMBER: _ClassVar[int]
        dtype: DTypeProto
        shape: ShapeProto
        sharding: ShardingProto
        array_handle: int
        def __init__(self, dtype: _Optional[_Union[DTypeProto, _Mapping]] = ..., shape: _Optional[_Union[ShapeProto, _Mapping]] = ..., sharding: _Optional[_Union[ShardingProto, _Mapping]] = ..., array_handle: _Optional[int] = ...) -> None: ...
    STATUS_HANDLE_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    status_handle: int
    outputs: _containers.RepeatedCompositeFieldContainer[LoadedExecutableExecuteResponse.Output]
    def __init__(self, status_handle: _Optional[int] = ..., outputs: _Optional[_Iterable[_Union[LoadedExecutableExecuteResponse.Output, _Mapping]]] = ...) -> None: ...

class LoadedExecutableFetchExecuteResultRequest(_message.Message):
    __slots__ = ("result_status_handle",)
    RESULT_STATUS_HANDLE_FIELD_NUMBER: _ClassVar[int]
    result_status_handle: int
    def __init__(self, result_status_handle: _Optional[int] = ...) -> None: ...

class LoadedExecutableFetchExecuteResultResponse(_message.Message):
    __slots__ = ("device_time",)
    class DeviceTimeEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    DEVICE_TIME_FIELD_NUMBER: _ClassVar[int]
    device_time: _containers.ScalarMap[str, float]
    def __init__(self, device_time: _Optional[_Mapping[str, float]] = ...) -> None: ...

class LoadedExecutableDeleteRequest(_message.Message):
    __slots__ = ("loaded_executable_handle",)
    LOADED_EXECUTABLE_HANDLE_FIELD_NUMBER: _ClassVar[int]
    loaded_executable_handle: int
    def __init__(self, loaded_executable_handle: _Optional[int] = ...) -> None: ...

class LoadedExecutableIsDeletedRequest(_message.Message):
    __slots__ = ("loaded_executable_handle",)
    LOADED_EXECUTABLE_HANDLE_FIELD_NUMBER: _ClassVar[int]
    loaded_executable_handle: int
    def __init__(self, loaded_executable_handle: _Optional[int] = ...) -> None: ...

class LoadedExecutableIsDeletedResponse(_message.Message):
    __slots__ = ("is_deleted",)
    IS_DELETED_FIELD_NUMBER: _ClassVar[int]
    is_deleted: bool
    def __init__(self, is_deleted: _Optional[bool] = ...) -> None: ...

class LoadedExecutableDeleteOptionsProto(_message.Message):
    __slots__ = ("deletion_stream_id",)
    DELETION_STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    deletion_stream_id: int
    def __init__(self, deletion_stream_id: _Optional[int] = ...) -> None: ...

class LoadedExecutableDestructRequest(_message.Message):
    __slots__ = ("loaded_executable_handle", "delete_options")
    LOADED_EXECUTABLE_HANDLE_FIELD_NUMBER: _ClassVar[int]
    DELETE_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    loaded_executable_handle: int
    delete_options: LoadedExecutableDeleteOptionsProto
    def __init__(self, loaded_executable_handle: _Optional[int] = ..., delete_options: _Optional[_Union[LoadedExecutableDeleteOptionsProto, _Mapping]] = ...) -> None: ...

class LoadedExecutableDestructResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LoadedExecutableMpmdMetadataRequest(_message.Message):
    __slots__ = ("mpmd_loaded_executable_handle",)
    MPMD_LOADED_EXECUTABLE_HANDLE_FIELD_NUMBER: _ClassVar[int]
    mpmd_loaded_executable_handle: int
    def __init__(self, mpmd_loaded_executable_handle: _Optional[int] = ...) -> None: ...

class LoadedExecutableMpmdCostAnalysisRequest(_message.Message):
    __slots__ = ("loaded_executable_handle",)
    LOADED_EXECUTABLE_HANDLE_FIELD_NUMBER: _ClassVar[int]
    loaded_executable_handle: int
    def __init__(self, loaded_executable_handle: _Optional[int] = ...) -> None: ...

class LoadedHostCallbackPollRequest(_message.Message):
    __slots__ = ("loaded_host_callback_handle", "operand_host_buffer_handle")
    LOADED_HOST_CALLBACK_HANDLE_FIELD_NUMBER: _ClassVar[int]
    OPERAND_HOST_BUFFER_HANDLE_FIELD_NUMBER: _ClassVar[int]
    loaded_host_callback_handle: int
    operand_host_buffer_handle: int
    def __init__(self, loaded_host_callback_handle: _Optional[int] = ..., operand_host_buffer_handle: _Optional[int] = ...) -> None: ...

class LoadedHostCallbackReturnRequest(_message.Message):
    __slots__ = ("host_callback_execution_handle", "result_host_buffer_handle", "error")
    HOST_CALLBACK_EXECUTION_HANDLE_FIELD_NUMBER: _ClassVar[int]
    RESULT_HOST_BUFFER_HANDLE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    host_callback_execution_handle: int
    result_host_buffer_handle: int
    error: StatusProto
    def __init__(self, host_callback_execution_handle: _Optional[int] = ..., result_host_buffer_handle: _Optional[int] = ..., error: _Optional[_Union[StatusProto, _Mapping]] = ...) -> None: ...

class GetDefaultDeviceAssignmentRequest(_message.Message):
    __slots__ = ("num_replicas", "num_partitions")
    NUM_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    NUM_PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    num_replicas: int
    num_partitions: int
    def __init__(self, num_replicas: _Optional[int] = ..., num_partitions: _Optional[int] = ...) -> None: ...

class GetDefaultDeviceAssignmentResponse(_message.Message):
    __slots__ = ("device_assignment",)
    DEVICE_ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    device_assignment: DeviceAssignmentProto
    def __init__(self, device_assignment: _Optional[_Union[DeviceAssignmentProto, _Mapping]] = ...) -> None: ...

class GetDefaultLayoutRequest(_message.Message):
    __slots__ = ("dtype", "dims", "device_id", "memory_kind")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    DIMS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    MEMORY_KIND_FIELD_NUMBER: _ClassVar[int]
    dtype: DTypeProto
    dims: _containers.RepeatedScalarFieldContainer[int]
    device_id: int
    memory_kind: str
    def __init__(self, dtype: _Optional[_Union[DTypeProto, _Mapping]] = ..., dims: _Optional[_Iterable[int]] = ..., device_id: _Optional[int] = ..., memory_kind: _Optional[str] = ...) -> None: ...

class GetDefaultLayoutResponse(_message.Message):
    __slots__ = ("serialized_pjrt_layout",)
    SERIALIZED_PJRT_LAYOUT_FIELD_NUMBER: _ClassVar[int]
    serialized_pjrt_layout: bytes
    def __init__(self, serialized_pjrt_layout: _Optional[bytes] = ...) -> None: ...

class StatusProto(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: Code
    message: str
    def __init__(self, code: _Optional[_Union[Code, str]] = ..., message: _Optional[str] = ...) -> None: ...

class ByteStrides(_message.Message):
    __slots__ = ("strides",)
    STRIDES_FIELD_NUMBER: _ClassVar[int]
    strides: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, strides: _Optional[_Iterable[int]] = ...) -> None: ...

class Serialized(_message.Message):
    __slots__ = ("type_name", "data")
    TYPE_NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    type_name: str
    data: bytes
    def __init__(self, type_name: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class DTypeProto(_message.Message):
    __slots__ = ("version_number", "kind")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[DTypeProto.Kind]
        KIND_PRED: _ClassVar[DTypeProto.Kind]
        KIND_S1: _ClassVar[DTypeProto.Kind]
        KIND_S2: _ClassVar[DTypeProto.Kind]
        KIND_S4: _ClassVar[DTypeProto.Kind]
        KIND_S8: _ClassVar[DTypeProto.Kind]
        KIND_S16: _ClassVar[DTypeProto.Kind]
        KIND_S32: _ClassVar[DTypeProto.Kind]
        KIND_S64: _ClassVar[DTypeProto.Kind]
        KIND_U1: _ClassVar[DTypeProto.Kind]
        KIND_U2: _ClassVar[DTypeProto.Kind]
        KIND_U4: _ClassVar[DTypeProto.Kind]
        KIND_U8: _ClassVar[DTypeProto.Kind]
        KIND_U16: _ClassVar[DTypeProto.Kind]
        KIND_U32: _ClassVar[DTypeProto.Kind]
        KIND_U64: _ClassVar[DTypeProto.Kind]
        KIND_F16: _ClassVar[DTypeProto.Kind]
        KIND_F32: _ClassVar[DTypeProto.Kind]
        KIND_F64: _ClassVar[DTypeProto.Kind]
        KIND_BF16: _ClassVar[DTypeProto.Kind]
        KIND_C64: _ClassVar[DTypeProto.Kind]
        KIND_C128: _ClassVar[DTypeProto.Kind]
        KIND_TOKEN: _ClassVar[DTypeProto.Kind]
        KIND_OPAQUE: _ClassVar[DTypeProto.Kind]
        KIND_F8E3M4: _ClassVar[DTypeProto.Kind]
        KIND_F8E4M3: _ClassVar[DTypeProto.Kind]
        KIND_F8E4M3FN: _ClassVar[DTypeProto.Kind]
        KIND_F8E4M3B11FNUZ: _ClassVar[DTypeProto.Kind]
        KIND_F8E4M3FNUZ: _ClassVar[DTypeProto.Kind]
        KIND_F8E5M2: _ClassVar[DTypeProto.Kind]
        KIND_F8E5M2FNUZ: _ClassVar[DTypeProto.Kind]
        KIND_F8E8M0FNU: _ClassVar[DTypeProto.Kind]
        KIND_F4E2M1FN: _ClassVar[DTypeProto.Kind]
        KIND_F6E2M3FN: _ClassVar[DTypeProto.Kind]
        KIND_F6E3M2FN: _ClassVar[DTypeProto.Kind]
        KIND_STRING: _ClassVar[DTypeProto.Kind]
    KIND_UNSPECIFIED: DTypeProto.Kind
    KIND_PRED: DTypeProto.Kind
    KIND_S1: DTypeProto.Kind
    KIND_S2: DTypeProto.Kind
    KIND_S4: DTypeProto.Kind
    KIND_S8: DTypeProto.Kind
    KIND_S16: DTypeProto.Kind
    KIND_S32: DTypeProto.Kind
    KIND_S64: DTypeProto.Kind
    KIND_U1: DTypeProto.Kind
    KIND_U2: DTypeProto.Kind
    KIND_U4: DTypeProto.Kind
    KIND_U8: DTypeProto.Kind
    KIND_U16: DTypeProto.Kind
    KIND_U32: DTypeProto.Kind
    KIND_U64: DTypeProto.Kind
    KIND_F16: DTypeProto.Kind
    KIND_F32: DTypeProto.Kind
    KIND_F64: DTypeProto.Kind
    KIND_BF16: DTypeProto.Kind
    KIND_C64: DTypeProto.Kind
    KIND_C128: DTypeProto.Kind
    KIND_TOKEN: DTypeProto.Kind
    KIND_OPAQUE: DTypeProto.Kind
    KIND_F8E3M4: DTypeProto.Kind
    KIND_F8E4M3: DTypeProto.Kind
    KIND_F8E4M3FN: DTypeProto.Kind
    KIND_F8E4M3B11FNUZ: DTypeProto.Kind
    KIND_F8E4M3FNUZ: DTypeProto.Kind
    KIND_F8E5M2: DTypeProto.Kind
    KIND_F8E5M2FNUZ: DTypeProto.Kind
    KIND_F8E8M0FNU: DTypeProto.Kind
    KIND_F4E2M1FN: DTypeProto.Kind
    KIND_F6E2M3FN: DTypeProto.Kind
    KIND_F6E3M2FN: DTypeProto.Kind
    KIND_STRING: DTypeProto.Kind
    VERSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    version_number: int
    kind: DTypeProto.Kind
    def __init__(self, version_number: _Optional[int] = ..., kind: _Optional[_Union[DTypeProto.Kind, str]] = ...) -> None: ...

class ShapeProto(_message.Message):
    __slots__ = ("version_number", "dims")
    VERSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    DIMS_FIELD_NUMBER: _ClassVar[int]
    version_number: int
    dims: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, version_number: _Optional[int] = ..., dims: _Optional[_Iterable[int]] = ...) -> None: ...

class ShardingProto(_message.Message):
    __slots__ = ("serialized_sharding",)
    SERIALIZED_SHARDING_FIELD_NUMBER: _ClassVar[int]
    serialized_sharding: Serialized
    def __init__(self, serialized_sharding: _Optional[_Union[Serialized, _Mapping]] = ...) -> None: ...

class LayoutProto(_message.Message):
    __slots__ = ("serialized_layout",)
    SERIALIZED_LAYOUT_FIELD_NUMBER: _ClassVar[int]
    serialized_layout: Serialized
    def __init__(self, serialized_layout: _Optional[_Union[Serialized, _Mapping]] = ...) -> None: ...

class ArraySpecProto(_message.Message):
    __slots__ = ("version_number", "dtype", "shape", "sharding", "layout")
    VERSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SHARDING_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    version_number: int
    dtype: DTypeProto
    shape: ShapeProto
    sharding: ShardingProto
    layout: bytes
    def __init__(self, version_number: _Optional[int] = ..., dtype: _Optional[_Union[DTypeProto, _Mapping]] = ..., shape: _Optional[_Union[ShapeProto, _Mapping]] = ..., sharding: _Optional[_Union[ShardingProto, _Mapping]] = ..., layout: _Optional[bytes] = ...) -> None: ...

class CustomCallProgramProto(_message.Message):
    __slots__ = ("version_number", "type", "name", "serialized_program_text", "devices", "input_specs", "output_specs")
    VERSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SERIALIZED_PROGRAM_TEXT_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    INPUT_SPECS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SPECS_FIELD_NUMBER: _ClassVar[int]
    version_number: int
    type: str
    name: str
    serialized_program_text: bytes
    devices: DeviceListProto
    input_specs: _containers.RepeatedCompositeFieldContainer[ArraySpecProto]
    output_specs: _containers.RepeatedCompositeFieldContainer[ArraySpecProto]
    def __init__(self, version_number: _Optional[int] = ..., type: _Optional[str] = ..., name: _Optional[str] = ..., serialized_program_text: _Optional[bytes] = ..., devices: _Optional[_Union[DeviceListProto, _Mapping]] = ..., input_specs: _Optional[_Iterable[_Union[ArraySpecProto, _Mapping]]] = ..., output_specs: _Optional[_Iterable[_Union[ArraySpecProto, _Mapping]]] = ...) -> None: ...

class DeviceListProto(_message.Message):
    __slots__ = ("version_number", "device_ids")
    VERSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    DEVICE_IDS_FIELD_NUMBER: _ClassVar[int]
    version_number: int
    device_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, version_number: _Optional[int] = ..., device_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class AttributeMapProto(_message.Message):
    __slots__ = ("version_number", "attributes")
    class Value(_message.Message):
        __slots__ = ("string_value", "bool_value", "int64_value", "int64_list_value", "float_value")
        class Int64List(_message.Message):
            __slots__ = ("elements",)
            ELEMENTS_FIELD_NUMBER: _ClassVar[int]
            elements: _containers.RepeatedScalarFieldContainer[int]
            def __init__(self, elements: _Optional[_Iterable[int]] = ...) -> None: ...
        STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
        BOOL_VALUE_FIELD_NUMBER: _ClassVar[int]
        INT64_VALUE_FIELD_NUMBER: _ClassVar[int]
        INT64_LIST_VALUE_FIELD_NUMBER: _ClassVar[int]
        FLOAT_VALUE_FIELD_NUMBER: _ClassVar[int]
        string_value: bytes
        bool_value: bool
        int64_value: int
        int64_list_value: AttributeMapProto.Value.Int64List
        float_value: float
        def __init__(self, string_value: _Optional[bytes] = ..., bool_value: _Optional[bool] = ..., int64_value: _Optional[int] = ..., int64_list_value: _Optional[_Union[AttributeMapProto.Value.Int64List, _Mapping]] = ..., float_value: _Optional[float] = ...) -> None: ...
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: AttributeMapProto.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[AttributeMapProto.Value, _Mapping]] = ...) -> None: ...
    VERSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    version_number: int
    attributes: _containers.MessageMap[str, AttributeMapProto.Value]
    def __init__(self, version_number: _Optional[int] = ..., attributes: _Optional[_Mapping[str, AttributeMapProto.Value]] = ...) -> None: ...

class ExecuteOptionsProto(_message.Message):
    __slots__ = ("version_number", "untuple_result", "launch_id", "non_donatable_input_indices", "fill_status", "execution_stream_id", "custom_options")
    VERSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    UNTUPLE_RESULT_FIELD_NUMBER: _ClassVar[int]
    LAUNCH_ID_FIELD_NUMBER: _ClassVar[int]
    NON_DONATABLE_INPUT_INDICES_FIELD_NUMBER: _ClassVar[int]
    FILL_STATUS_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    version_number: int
    untuple_result: bool
    launch_id: int
    non_donatable_input_indices: _containers.RepeatedScalarFieldContainer[int]
    fill_status: bool
    execution_stream_id: int
    custom_options: AttributeMapProto
    def __init__(self, version_number: _Optional[int] = ..., untuple_result: _Optional[bool] = ..., launch_id: _Optional[int] = ..., non_donatable_input_indices: _Optional[_Iterable[int]] = ..., fill_status: _Optional[bool] = ..., execution_stream_id: _Optional[int] = ..., custom_options: _Optional[_Union[AttributeMapProto, _Mapping]] = ...) -> None: ...

class RemapPlanProto(_message.Message):
    __slots__ = ("version_number", "input_specs", "output_specs", "mappings")
    class MappingProto(_message.Message):
        __slots__ = ("in_array", "out_array", "from_start", "from_end", "from_step", "to_start", "to_end", "to_step")
        IN_ARRAY_FIELD_NUMBER: _ClassVar[int]
        OUT_ARRAY_FIELD_NUMBER: _ClassVar[int]
        FROM_START_FIELD_NUMBER: _ClassVar[int]
        FROM_END_FIELD_NUMBER: _ClassVar[int]
        FROM_STEP_FIELD_NUMBER: _ClassVar[int]
        TO_START_FIELD_NUMBER: _ClassVar[int]
        TO_END_FIELD_NUMBER: _ClassVar[int]
        TO_STEP_FIELD_NUMBER: _ClassVar[int]
        in_array: int
        out_array: int
        from_start: _containers.RepeatedScalarFieldContainer[int]
        from_end: _containers.RepeatedScalarFieldContainer[int]
        from_step: _containers.RepeatedScalarFieldContainer[int]
        to_start: _containers.RepeatedScalarFieldContainer[int]
        to_end: _containers.RepeatedScalarFieldContainer[int]
        to_step: _containers.RepeatedScalarFieldContainer[int]
        def __init__(self, in_array: _Optional[int] = ..., out_array: _Optional[int] = ..., from_start: _Optional[_Iterable[int]] = ..., from_end: _Optional[_Iterable[int]] = ..., from_step: _Optional[_Iterable[int]] = ..., to_start: _Optional[_Iterable[int]] = ..., to_end: _Optional[_Iterable[int]] = ..., to_step: _Optional[_Iterable[int]] = ...) -> None: ...
    VERSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    INPUT_SPECS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SPECS_FIELD_NUMBER: _ClassVar[int]
    MAPPINGS_FIELD_NUMBER: _ClassVar[int]
    version_number: int
    input_specs: _containers.RepeatedCompositeFieldContainer[ArraySpecProto]
    output_specs: _containers.RepeatedCompositeFieldContainer[ArraySpecProto]
    mappings: _containers.RepeatedCompositeFieldContainer[RemapPlanProto.MappingProto]
    def __init__(self, version_number: _Optional[int] = ..., input_specs: _Optional[_Iterable[_Union[ArraySpecProto, _Mapping]]] = ..., output_specs: _Optional[_Iterable[_Union[ArraySpecProto, _Mapping]]] = ..., mappings: _Optional[_Iterable[_Union[RemapPlanProto.MappingProto, _Mapping]]] = ...) -> None: ...

class SingleDeviceShardingProto(_message.Message):
    __slots__ = ("version_number", "device_id", "memory_kind")
    VERSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    MEMORY_KIND_FIELD_NUMBER: _ClassVar[int]
    version_number: int
    device_id: int
    memory_kind: str
    def __init__(self, version_number: _Optional[int] = ..., device_id: _Optional[int] = ..., memory_kind: _Optional[str] = ...) -> None: ...

class OpaqueShardingProto(_message.Message):
    __slots__ = ("version_number", "devices", "memory_kind")
    VERSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_KIND_FIELD_NUMBER: _ClassVar[int]
    version_number: int
    devices: DeviceListProto
    memory_kind: str
    def __init__(self, version_number: _Optional[int] = ..., devices: _Optional[_Union[DeviceListProto, _Mapping]] = ..., memory_kind: _Optional[str] = ...) -> None: ...

class ConcreteShardingProto(_message.Message):
    __slots__ = ("version_number", "devices", "memory_kind", "shape", "dynamic_shape", "shard_shapes")
    VERSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_KIND_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DYNAMIC_SHAPE_FIELD_NUMBER: _ClassVar[int]
    SHARD_SHAPES_FIELD_NUMBER: _ClassVar[int]
    version_number: int
    devices: DeviceListProto
    memory_kind: str
    shape: ShapeProto
    dynamic_shape: bytes
    shard_shapes: _containers.RepeatedCompositeFieldContainer[ShapeProto]
    def __init__(self, version_number: _Optional[int] = ..., devices: _Optional[_Union[DeviceListProto, _Mapping]] = ..., memory_kind: _Optional[str] = ..., shape: _Optional[_Union[ShapeProto, _Mapping]] = ..., dynamic_shape: _Optional[bytes] = ..., shard_shapes: _Optional[_Iterable[_Union[ShapeProto, _Mapping]]] = ...) -> None: ...

class ConcreteEvenShardingProto(_message.Message):
    __slots__ = ("version_number", "devices", "memory_kind", "shape", "shard_shape", "is_fully_replicated")
    VERSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_KIND_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SHARD_SHAPE_FIELD_NUMBER: _ClassVar[int]
    IS_FULLY_REPLICATED_FIELD_NUMBER: _ClassVar[int]
    version_number: int
    devices: DeviceListProto
    memory_kind: str
    shape: ShapeProto
    shard_shape: ShapeProto
    is_fully_replicated: bool
    def __init__(self, version_number: _Optional[int] = ..., devices: _Optional[_Union[DeviceListProto, _Mapping]] = ..., memory_kind: _Optional[str] = ..., shape: _Optional[_Union[ShapeProto, _Mapping]] = ..., shard_shape: _Optional[_Union[ShapeProto, _Mapping]] = ..., is_fully_replicated: _Optional[bool] = ...) -> None: ...

class HloShardingProto(_message.Message):
    __slots__ = ("version_number", "devices", "memory_kind", "xla_op_sharding")
    VERSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_KIND_FIELD_NUMBER: _ClassVar[int]
    XLA_OP_SHARDING_FIELD_NUMBER: _ClassVar[int]
    version_number: int
    devices: DeviceListProto
    memory_kind: str
    xla_op_sharding: bytes
    def __init__(self, version_number: _Optional[int] = ..., devices: _Optional[_Union[DeviceListProto, _Mapping]] = ..., memory_kind: _Optional[str] = ..., xla_op_sharding: _Optional[bytes] = ...) -> None: ...

class CompactLayoutProto(_message.Message):
    __slots__ = ("version_number", "major_to_minor")
    VERSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    MAJOR_TO_MINOR_FIELD_NUMBER: _ClassVar[int]
    version_number: int
    major_to_minor: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, version_number: _Optional[int] = ..., major_to_minor: _Optional[_Iterable[int]] = ...) -> None: ...

class PjRtLayoutProto(_message.Message):
    __slots__ = ("version_number", "xla_layout")
    VERSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    XLA_LAYOUT_FIELD_NUMBER: _ClassVar[int]
    version_number: int
    xla_layout: bytes
    def __init__(self, version_number: _Optional[int] = ..., xla_layout: _Optional[bytes] = ...) -> None: ...

class XlaCompileOptionsProto(_message.Message):
    __slots__ = ("compile_options",)
    COMPILE_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    compile_options: bytes
    def __init__(self, compile_options: _Optional[bytes] = ...) -> None: ...

class CompileOptionsProto(_message.Message):
    __slots__ = ("executable_build_options", "env_option_overrides")
    class EnvOptionOverridesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: OptionOverrideProto
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[OptionOverrideProto, _Mapping]] = ...) -> None: ...
    EXECUTABLE_BUILD_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    ENV_OPTION_OVERRIDES_FIELD_NUMBER: _ClassVar[int]
    executable_build_options: ExecutableBuildOptionsProto
    env_option_overrides: _containers.MessageMap[str, OptionOverrideProto]
    def __init__(self, executable_build_options: _Optional[_Union[ExecutableBuildOptionsProto, _Mapping]] = ..., env_option_overrides: _Optional[_Mapping[str, OptionOverrideProto]] = ...) -> None: ...

class OptionOverrideProto(_message.Message):
    __slots__ = ("string_field",)
    STRING_FIELD_FIELD_NUMBER: _ClassVar[int]
    string_field: str
    def __init__(self, string_field: _Optional[str] = ...) -> None: ...

class ExecutableBuildOptionsProto(_message.Message):
    __slots__ = ("num_replicas", "num_partitions", "device_assignment")
    NUM_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    NUM_PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    num_replicas: int
    num_partitions: int
    device_assignment: DeviceAssignmentProto
    def __init__(self, num_replicas: _Optional[int] = ..., num_partitions: _Optional[int] = ..., device_assignment: _Optional[_Union[DeviceAssignmentProto, _Mapping]] = ...) -> None: ...

class DeviceAssignmentProto(_message.Message):
    __slots__ = ("replica_count", "computation_count", "computation_devices")
    class ComputationDevice(_message.Message):
        __slots__ = ("replica_device_ids",)
        REPLICA_DEVICE_IDS_FIELD_NUMBER: _ClassVar[int]
        replica_device_ids: _containers.RepeatedScalarFieldContainer[int]
        def __init__(self, replica_device_ids: _Optional[_Iterable[int]] = ...) -> None: ...
    REPLICA_COUNT_FIELD_NUMBER: _ClassVar[int]
    COMPUTATION_COUNT_FIELD_NUMBER: _ClassVar[int]
    COMPUTATION_DEVICES_FIELD_NUMBER: _ClassVar[int]
    replica_count: int
    computation_count: int
    computation_devices: _containers.RepeatedCompositeFieldContainer[DeviceAssignmentProto.ComputationDevice]
    def __init__(self, replica_count: _Optional[int] = ..., computation_count: _Optional[int] = ..., computation_devices: _Optional[_Iterable[_Union[DeviceAssignmentProto.ComputationDevice, _Mapping]]] = ...) -> None: ...

class OpSharding(_message.Message):
    __slots__ = ("type", "tile_assignment_dimensions", "replicate_on_last_tile_dim", "last_tile_dims")
    class Type(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REPLICATED: _ClassVar[OpSharding.Type]
        MAXIMAL: _ClassVar[OpSharding.Type]
        TUPLE: _ClassVar[OpSharding.Type]
        OTHER: _ClassVar[OpSharding.Type]
        MANUAL: _ClassVar[OpSharding.Type]
        UNKNOWN: _ClassVar[OpSharding.Type]
        UNREDUCED: _ClassVar[OpSharding.Type]
    REPLICATED: OpSharding.Type
    MAXIMAL: OpSharding.Type
    TUPLE: OpSharding.Type
    OTHER: OpSharding.Type
    MANUAL: OpSharding.Type
    UNKNOWN: OpSharding.Type
    UNREDUCED: OpSharding.Type
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TILE_ASSIGNMENT_DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    REPLICATE_ON_LAST_TILE_DIM_FIELD_NUMBER: _ClassVar[int]
    LAST_TILE_DIMS_FIELD_NUMBER: _ClassVar[int]
    type: OpSharding.Type
    tile_assignment_dimensions: _containers.RepeatedScalarFieldContainer[int]
    replicate_on_last_tile_dim: bool
    last_tile_dims: _containers.RepeatedScalarFieldContainer[OpSharding.Type]
    def __init__(self, type: _Optional[_Union[OpSharding.Type, str]] = ..., tile_assignment_dimensions: _Optional[_Iterable[int]] = ..., replicate_on_last_tile_dim: _Optional[bool] = ..., last_tile_dims: _Optional[_Iterable[_Union[OpSharding.Type, str]]] = ...) -> None: ...

class XlaLayoutProto(_message.Message):
    __slots__ = ("minor_to_major", "tiles", "tail_padding_alignment_in_elements", "element_size_in_bits", "memory_space")
    MINOR_TO_MAJOR_FIELD_NUMBER: _ClassVar[int]
    TILES_FIELD_NUMBER: _ClassVar[int]
    TAIL_PADDING_ALIGNMENT_IN_ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    ELEMENT_SIZE_IN_BITS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_SPACE_FIELD_NUMBER: _ClassVar[int]
    minor_to_major: _containers.RepeatedScalarFieldContainer[int]
    tiles: _containers.RepeatedCompositeFieldContainer[TileProto]
    tail_padding_alignment_in_elements: int
    element_size_in_bits: int
    memory_space: int
    def __init__(self, minor_to_major: _Optional[_Iterable[int]] = ..., tiles: _Optional[_Iterable[_Union[TileProto, _Mapping]]] = ..., tail_padding_alignment_in_elements: _Optional[int] = ..., element_size_in_bits: _Optional[int] = ..., memory_space: _Optional[int] = ...) -> None: ...

class TileProto(_message.Message):
    __slots__ = ("dimensions",)
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    dimensions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, dimensions: _Optional[_Iterable[int]] = ...) -> None: ...
